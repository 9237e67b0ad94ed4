"""Two-stage training that can be resumed: every epoch ends with one atomically written state file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from stas_neuro import api
from stas_neuro.chips import load_profile
from stas_neuro.compiler import fold
from stas_neuro.data import LabelledImages, PreparedImages, blocks, normalise
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.files import locked_directory, write_atomically
from stas_neuro.ir import Graph
from stas_neuro.labels import absent_classes, check_every_class_occurs, draw, listing, match_classes
from stas_neuro.models.checkpoint import (
    TrainingRecord,
    load_checkpoint,
    load_config,
    load_training,
    save_checkpoint,
)
from stas_neuro.models.config import StasConfig
from stas_neuro.models.lif import LIF
from stas_neuro.models.stas import Output, StasModel
from stas_neuro.training.execution import GraphModule
from stas_neuro.training.options import Augmentation, Target, TrainOptions
from stas_neuro.training.ponder import EnergySurrogate, surrogate
from stas_neuro.training.state import Moments, Progress, State, read_state, write_state

Report = Callable[[dict[str, Any]], None]
STATE = "last.safetensors"
LOG = "log.jsonl"
DIVERGED = 100.0
"""Ratio of cross-entropy to that of guessing from which training has diverged: no batch of a training that
still learns is close to it."""
PRICED_IMAGES = 16
"""Number of training images with which visits are priced."""
SPLIT = "stratified"
"""Rule by which images are held out (`split`)."""


@dataclass(frozen=True)
class _Workers:
    """Rank among the processes of torch's distributed launcher; a single process without it."""

    rank: int
    count: int

    @property
    def writes(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Task:
    """Classes of a network, and the mean and standard deviation with which its images are normalised."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, model: StasModel | GraphModule) -> Task:
        """Return the task of a model or a graph."""
        if isinstance(model, StasModel):
            return cls(model.config.class_names, model.config.mean, model.config.std)
        graph = model.graph
        return cls(graph.classes, graph.preprocessing.mean, graph.preprocessing.std)


@dataclass(frozen=True)
class Start:
    """Name of the network that a training starts from, and the record of its own training, if it has one."""

    name: str
    record: TrainingRecord | None


@contextmanager
def _workers() -> Iterator[_Workers]:
    if "WORLD_SIZE" not in os.environ:
        yield _Workers(0, 1)
        return
    distributed.init_process_group("gloo")
    try:
        yield _Workers(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def fit_config(config: StasConfig, data: LabelledImages, classes: tuple[str, ...] = ()) -> StasConfig:
    """Return the configuration adapted to the data: image size, channels, classes and normalisation.

    ``classes`` are the classes of the initial weights, if these come from a checkpoint; they are kept.

    Raises
    ------
    InputError
        If the data have no labels, images are not square, the patch size does not divide the image size, or
        the number of frames of event data is not the number of time steps; if a class has no images, or the
        data have classes other than ``classes``.
    """
    if data.labels is None:
        raise InputError(f"{data.source}: has no labels", remedy="add an array named labels")
    *_, channels, height, width = data.images.shape
    if height != width:
        raise InputError(f"{data.source}: images are {height}x{width}", remedy="crop or pad them to squares")
    if data.images.ndim == 5 and data.images.shape[1] != config.time_steps:
        raise InputError(
            f"{data.source}: {data.images.shape[1]} frames per image, the model needs {config.time_steps}",
            remedy="set time_steps to the number of frames",
        )
    if len(classes) == 1:
        raise InputError(f"the weights are for a single class, {classes[0]}", "start from other weights")
    if classes:
        match_classes(data, classes)
    else:
        check_every_class_occurs(data)
        classes = data.classes or tuple(str(i) for i in range(int(data.labels.max()) + 1))
    mean, std = _moments(data)
    return config.replace(
        image_size=height,
        in_channels=channels,
        num_classes=len(classes),
        classes=classes,
        event_input=data.images.ndim == 5,
        mean=tuple(round(float(value), 6) for value in mean),
        std=tuple(round(float(value), 6) for value in std),
    )


def _moments(data: LabelledImages) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of the pixels of each channel, and their standard deviation, at least 0.001."""
    images = data.images
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    axes = tuple(axis for axis in range(images.ndim) if axis != images.ndim - 3)
    shape = [1 if axis in axes else -1 for axis in range(images.ndim)]
    each = images.size // images.shape[-3]
    mean = sum(block.sum(axes, dtype=np.float64) for block in blocks(images)) / each
    squares = (((block - mean.reshape(shape)) ** 2).sum(axes) for block in blocks(images))
    return mean / scale, np.maximum(np.sqrt(sum(squares) / each) / scale, 1e-3)


def train(
    config: StasConfig,
    data: LabelledImages,
    options: TrainOptions,
    directory: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    prepare: Callable[[], None] = lambda: None,
    report: Report = lambda event: None,
) -> StasModel:
    """Train in two stages, and write checkpoints to ``directory`` and ``directory/stage1``.

    ``init`` is a checkpoint to start from (its weights and classes), such as stage 1 of another run.
    ``options.holdout`` images are held out, see `split`. ``prepare`` is called before anything is written,
    while ``directory`` is locked against other trainings.

    If started by torch's distributed launcher, training uses all its processes. ``report`` receives one event
    per batch (``{"event": "batch", ...}``) and one per epoch, which are also written to ``log.jsonl``.
    Limitations of the results are reported as events, too (``{"event": "note", "text": ...}``). With
    ``resume``, a run that was stopped at any point continues after its last finished epoch, with the same
    result.

    Raises
    ------
    InputError
        If the data do not fit, the state to ``resume`` belongs to a run with other options, or another
        process trains in ``directory``.
    CheckFailed
        If training diverges.
    """
    config = fit(config, data, options, classes_of(init))
    with _alone(directory), _workers() as workers:
        _check_batch(options, workers)
        torch.manual_seed(options.seed)
        run = _Run(StasModel(config), data, options, directory, workers, report)
        if init is not None:
            run.start_from(init)
        if workers.writes:
            prepare()
            if init is not None:
                run.report_limits(str(init), load_training(init))
        run.run(resume)
        assert isinstance(run.model, StasModel)
        return run.model.eval()


def train_graph(
    module: GraphModule,
    data: LabelledImages,
    options: TrainOptions,
    target: Target,
    start: Start,
    save: Callable[[TrainingRecord], None],
) -> TrainingRecord:
    """Train a graph, like stage 2 of :func:`train`, and return the record of the training.

    ``save`` must write the result. It is called with the record at the end, in the process that writes files,
    while the directory is still locked. Raises InputError and CheckFailed as :func:`train` does.
    """
    fit_graph(module.graph, data, options)
    options = replace(options, stage1_epochs=0)
    with _alone(target.directory), _workers() as workers:
        _check_batch(options, workers)
        run = _Run(module, data, options, target.directory, workers, target.report)
        if workers.writes:
            target.prepare()
            run.report_limits(start.name, start.record)
        run.run(target.resume)
        if workers.writes:
            save(run.record)
        return run.record


def _check_batch(options: TrainOptions, workers: _Workers) -> None:
    """Refuse a batch that processes cannot divide equally."""
    if options.batch_size % workers.count:
        raise InputError(
            f"batch_size={options.batch_size} is not a multiple of {workers.count} processes",
            remedy="use a batch size that is",
        )


def _alone(directory: Path) -> AbstractContextManager[None]:
    """Lock a directory against other trainings; the first process of torch's launcher does so for all."""
    if os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return locked_directory(directory, "another training")


def classes_of(init: Path | None) -> tuple[str, ...]:
    """Return the class names of an initial checkpoint; none without one."""
    return () if init is None else load_config(init).class_names


def split(data: LabelledImages, options: TrainOptions) -> tuple[LabelledImages, LabelledImages]:
    """Return the images to train on, and ``options.holdout`` images held out for evaluation.

    Both parts have the class proportions of the data and are in random order, whatever the order of the data.
    The same data, ``holdout`` and ``seed`` result in the same parts.
    """
    return draw(data, len(data) - options.holdout, options.seed)


def fit(
    config: StasConfig, data: LabelledImages, options: TrainOptions, classes: tuple[str, ...] = ()
) -> StasConfig:
    """Return the result of `fit_config`; raise InputError where there are too few images to train on."""
    config = fit_config(config, data, classes)
    _check_counts(data, options)
    _check_losses(options, config.accumulate)
    return config


def fit_graph(graph: Graph, data: LabelledImages, options: TrainOptions) -> None:
    """Raise InputError where images or their number do not fit the training of a graph."""
    if data.labels is None:
        raise InputError(f"{data.source}: has no labels", remedy="add an array named labels")
    if len(graph.classes) == 1:
        raise InputError(f"the network has a single class, {graph.classes[0]}", "start from another one")
    api.preprocess(graph, data, 1)  # refuses images of another shape, and labels of other classes
    _check_counts(data, options)
    if options.exit_loss:
        raise InputError("exit_loss is of a model with halting image", "leave it out to fine-tune a network")
    _check_losses(options, graph.halting)


def _check_losses(options: TrainOptions, accumulate: str) -> None:
    """Raise InputError for losses that halting does not have, or an unknown profile."""
    if options.exit_loss and accumulate != "image":
        raise InputError(
            f"exit_loss is of halting image, and accumulate is {accumulate}", "use image, or leave it out"
        )
    if options.ponder_profile:
        load_profile(options.ponder_profile)
    for name in ("ponder_profile", "zombie_weight"):
        if getattr(options, name) and accumulate == "off":
            what = f"{name} is given and accumulate is off, so there are no visits to weigh"
            raise InputError(what, "use a halting policy, or leave it out")


def _check_counts(data: LabelledImages, options: TrainOptions) -> None:
    if len(data) <= options.holdout:
        raise InputError(
            f"{data.source}: with holdout={options.holdout} of {len(data)} images, none are left to train on",
            remedy="lower the holdout",
        )
    if len(data) - options.holdout < options.batch_size:
        raise InputError(
            f"{len(data) - options.holdout} training images are fewer than batch_size={options.batch_size}",
            remedy="lower the batch size",
        )
    classes_present = len(np.unique(np.asarray(data.labels)))
    if len(data) - options.holdout < classes_present:
        raise InputError(
            f"{data.source}: with holdout={options.holdout} of {len(data)} images, some of its "
            f"{classes_present} classes have none to train on",
            remedy="lower the holdout",
        )


def evaluate(model: StasModel | GraphModule, data: LabelledImages, batch_size: int = 500) -> dict[str, float]:
    """Return accuracy and halting statistics on labelled images.

    Keys are ``accuracy``, ``cross_entropy`` (nats per image), ``token_ratio``, ``visits_std`` (standard
    deviation over all tokens) and ``visits_std_within`` (mean over images of the standard deviation over an
    image's tokens). Labels are matched with the model's classes (`match_classes`).
    """
    task = Task.of(model)
    data = match_classes(data, task.classes)
    assert data.labels is not None
    dtype = next(model.parameters()).dtype
    was_training = model.training
    model.eval()
    right, entropy = 0, 0.0
    counts = []
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        for start in range(0, len(data), batch_size):
            part = data.select(slice(start, start + batch_size))
            assert part.labels is not None
            x = torch.from_numpy(normalise(part.images[:], task.mean, task.std)).to(dtype)
            output = model(x, skip=True)
            visits_per_token = output.visits[0, ..., 0].numel()
            right += int((output.logits.argmax(1).numpy() == part.labels).sum())
            labels = torch.from_numpy(part.labels)
            entropy += float(nn.functional.cross_entropy(output.logits.double(), labels, reduction="sum"))
            counts.append(output.visits.sum((1, 2)).numpy())
    model.train(was_training)
    visits = np.concatenate(counts)
    return {
        "accuracy": right / len(data),
        "cross_entropy": entropy / len(data),
        "token_ratio": float(visits.mean()) / visits_per_token,
        "visits_std": float(visits.std()),
        "visits_std_within": float(visits.std(axis=1).mean()),
    }


class _Run:
    def __init__(
        self,
        model: StasModel | GraphModule,
        data: LabelledImages,
        options: TrainOptions,
        directory: Path,
        workers: _Workers,
        report: Report,
    ) -> None:
        self.model, self.task, self.options, self.directory = model, Task.of(model), options, directory
        self.config = model.config if isinstance(model, StasModel) else None
        self.workers, self.report = workers, report
        self.log: list[str] = []
        """Lines of the log; the state file has them, too, so that it and the log cannot disagree."""
        data = match_classes(data, self.task.classes)
        kept, self.holdout = split(data, options)
        self.pixels = PreparedImages(kept.images, self._normalised)
        self.labels = torch.from_numpy(kept.labels)
        held_out = _hash(self.holdout)
        self.source, self.absent = data.source, absent_classes(data)
        self.record = TrainingRecord(
            images=len(data),
            held_out=len(self.holdout),
            split=SPLIT,
            seed=options.seed,
            held_out_sha256=held_out.hexdigest(),
        )
        self.prices: EnergySurrogate | None = None
        """Prices of visits in stage 2, if the options name a profile."""
        self.moved_by: int | None = None
        """Stage of the last step that changed weights."""
        self.origin = _hash(data)
        if options.compile:
            torch._dynamo.config.recompile_limit = 64  # one per shape, stage and precision
            for module in self.model.modules():
                if isinstance(module, LIF):
                    module.compile(dynamic=False)

    def _normalised(self, images: NDArray[Any]) -> NDArray[np.float32]:
        return normalise(images, self.task.mean, self.task.std).astype(np.float32)

    def start_from(self, checkpoint: Path) -> None:
        weights = load_checkpoint(checkpoint).state_dict()
        self.origin.update((checkpoint / "model.safetensors").read_bytes())
        wanted = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if wanted != {name: tensor.shape for name, tensor in weights.items()}:
            raise InputError(
                f"{checkpoint}: its layers differ from those of the model to train",
                remedy="use the same backbone, width and depth",
            )
        self.model.load_state_dict(weights)

    def report_limits(self, init: str, record: TrainingRecord | None) -> None:
        """Report what limits the meaning of the accuracy on held-out images, for weights of `init`."""
        if self.absent:
            text = f"{self.source} has no images of {listing(self.absent)}, which the model may forget"
            self.report({"event": "note", "text": text})
        if record is None or record.held_out_sha256 != self.record.held_out_sha256:
            text = f"{init} may have been trained on images held out here: accuracy may be too high"
            if record is not None:
                text += f"; it held out {record.held_out} of {record.images} with seed {record.seed}"
            self.report({"event": "note", "text": text})

    def run(self, resume: bool) -> None:
        done = self._restore() if resume and os.path.lexists(self.directory / STATE) else None
        if done is None and self.workers.writes:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / STATE).unlink(missing_ok=True)  # belongs to a run that this one replaces
            self._write_log()
        for stage, epochs in ((1, self.options.stage1_epochs), (2, self.options.stage2_epochs)):
            if done is not None and done.progress.stage > stage:
                continue
            first = done.progress.epoch + 1 if done is not None and done.progress.stage == stage else 0
            self._stage(stage, first, epochs, done.moments if first and done else None)
        if self.workers.writes and isinstance(self.model, StasModel):
            # Without stage 2 the model has not learned to halt.
            self.model.config = self._config(2 if self.options.stage2_epochs else 1)
            save_checkpoint(self.model, self.directory, self.record)

    def _config(self, stage: int) -> StasConfig:
        """Return the configuration of a model in a stage."""
        assert self.config is not None  # which a graph does not have
        return self.config if stage == 2 else self.config.replace(accumulate="off")

    def _stage(  # noqa: PLR0915 - one loop, read from top to bottom
        self, stage: int, first: int, epochs: int, moments: Moments | None
    ) -> None:
        options = self.options
        model = self.model
        if isinstance(model, StasModel):
            model.config = model.stem.config = self._config(stage)
        if stage == 2 and first == 0 and epochs and options.ponder_profile:
            self.prices = self._priced()
        optimiser = torch.optim.AdamW(_groups(model, options.weight_decay))
        if moments is not None:
            optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
        forward = nn.parallel.DistributedDataParallel(model) if self.workers.count > 1 else model
        steps = self._steps
        for epoch in range(first, epochs):
            model.train()
            start = time.perf_counter()
            sums = np.zeros(3)
            for step, (x, y) in enumerate(self._batches(stage, epoch)):
                progress = (epoch * steps + step) / (epochs * steps)
                peak = options.stage1_rate if stage == 1 else options.stage2_rate
                rate = peak * one_cycle(progress)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                with torch.autocast("cpu", torch.bfloat16) if options.bfloat16 else nullcontext():
                    output = forward(x)
                loss = nn.functional.cross_entropy(
                    output.logits.float(), y, label_smoothing=options.label_smoothing
                )
                place = f"stage {stage} epoch {epoch + 1} of {epochs}, step {step + 1} of {steps}"
                self._check("loss", loss.item(), place, rate)
                if stage == 2:
                    ramp = min(1.0, progress / options.ponder_ramp) if options.ponder_ramp else 1.0
                    loss = loss + ramp * self._of_visits(output) + self._of_exits(output, y)
                optimiser.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                self._check("norm of the gradient", norm.item(), place, rate, math.inf)
                optimiser.step()
                self.moved_by = stage
                model.commit_statistics()
                hits = (output.logits.argmax(1) == y).float().mean()
                sums += [loss.item(), hits.item(), output.token_ratio]
                self.report(
                    {
                        "event": "batch",
                        "stage": stage,
                        "epoch": epoch,
                        "epochs": epochs,
                        "step": step,
                        "steps": steps,
                        "loss": sums[0] / (step + 1),
                        "accuracy": sums[1] / (step + 1),
                        "token_ratio": sums[2] / (step + 1),
                    }
                )
            if self.workers.count > 1:
                distributed.all_reduce(torch.from_numpy(sums))
                sums /= self.workers.count
            if self.workers.writes:
                means = dict(zip(("loss", "train_accuracy", "train_token_ratio"), sums / steps, strict=True))
                event = {"event": "epoch", "stage": stage, "epoch": epoch, "epochs": epochs}
                held_out = evaluate(model, self.holdout)
                place = f"the end of stage {stage} epoch {epoch + 1} of {epochs}"
                self._check("loss of held-out images", held_out["cross_entropy"], place, rate)
                event |= {"seconds": time.perf_counter() - start, **means, **held_out}
                self.log.append(json.dumps(event))
                self._save(stage, epoch, optimiser)
                self._write_log()
                self.report(event)
            if self.workers.count > 1:
                distributed.barrier()
        if stage == 1 and epochs and self.workers.writes and isinstance(model, StasModel):
            save_checkpoint(model, self.directory / "stage1", self.record)

    def _of_visits(self, output: Output) -> Tensor:
        """Return the weighted losses that make tokens halt: ponder, and the share of those that never do."""
        options = self.options
        ponder = output.ponder if self.prices is None else self.prices.loss(output.soft_visits)
        loss = options.ponder_weight * ponder
        if options.zombie_weight:
            loss = loss + options.zombie_weight * output.soft_visits[:, -1, -1].mean()
        return loss

    def _of_exits(self, output: Output, labels: Tensor) -> Tensor | float:
        """Return the weighted cross-entropy of the mean logits after each step; 0 if it is not asked for."""
        if not self.options.exit_loss:
            return 0.0
        assert output.running is not None  # `_check_losses`
        steps = output.running.shape[1]
        smoothing = self.options.label_smoothing
        return self.options.exit_loss * nn.functional.cross_entropy(
            output.running.float().flatten(0, 1), labels.repeat_interleave(steps), label_smoothing=smoothing
        )

    def _priced(self) -> EnergySurrogate:
        """Price the visits of the network as it is, on some of the training images."""
        model = self.model
        graph = fold(model) if isinstance(model, StasModel) else model.trained()
        images = self.pixels[:PRICED_IMAGES]
        profile = load_profile(self.options.ponder_profile)
        return surrogate(graph, images, profile, self.options.ponder_mode)

    def _check(self, what: str, value: float, place: str, rate: float, limit: float | None = None) -> None:
        """Raise CheckFailed for a value that is not finite or not below `limit` (default: that of a loss)."""
        guessing = math.log(len(self.task.classes))
        if limit is None:
            limit = DIVERGED * guessing
        if value < limit:
            return
        remedy = "start from other weights: no step has changed them yet"
        if self.moved_by is not None:
            peak = getattr(self.options, f"stage{self.moved_by}_rate")
            remedy = f"lower stage{self.moved_by}_rate, which is {peak:g}"
        raise CheckFailed(
            f"training diverges: the {what} is {value:.3g} at {place}, with a learning rate of {rate:.3g} "
            f"(the loss of guessing is {guessing:.3g})",
            remedy,
        )

    def _batches(self, stage: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        options, workers = self.options, self.workers
        # Seeded by the epoch only, so that a resumed run draws the same batches.
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + stage * 1009 + epoch)
        order = torch.randperm(len(self.pixels), generator=generator)
        share = options.batch_size // workers.count
        for start in range(0, len(order) - options.batch_size + 1, options.batch_size):
            index = order[start + workers.rank * share : start + (workers.rank + 1) * share]
            x = torch.from_numpy(self.pixels[index.numpy()])
            yield augmented(x, options.augment, generator), self.labels[index]

    def _save(self, stage: int, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        key, held_out = self._key(), self.record.held_out_sha256
        progress = Progress(stage, epoch, key, tuple(self.log), held_out, self.prices)
        write_state(self.directory / STATE, progress, self.model.state_dict(), optimiser.state_dict())

    @property
    def _steps(self) -> int:
        """Number of steps in an epoch."""
        return len(self.pixels) // self.options.batch_size

    def _write_log(self) -> None:
        write_atomically(self.directory / LOG, "".join(line + "\n" for line in self.log).encode())

    def _key(self) -> str:
        network = self.model.identity if isinstance(self.model, GraphModule) else self._config(2).to_json()
        parts = [network, self.options.to_json(), self.origin.hexdigest()]
        return json.dumps(parts, sort_keys=True)

    def _restore(self) -> State:
        groups = _groups(self.model, self.options.weight_decay)
        state = read_state(
            self.directory / STATE,
            self.model.state_dict(),
            [parameter for group in groups for parameter in group["params"]],
            (self.options.stage1_epochs, self.options.stage2_epochs),
            self._steps,
            self._check_mine,
        )
        self.log, self.prices = list(state.progress.log), state.progress.prices
        self.moved_by = state.progress.stage
        self.model.load_state_dict(state.weights)
        if self.workers.writes:
            self._write_log()
        return state

    def _check_mine(self, progress: Progress) -> None:
        """Raise InputError for the progress of another run."""
        path = self.directory / STATE
        if progress.key != self._key() and progress.held_out is not None:
            raise InputError(
                f"{path}: belongs to a run with other options, data or initial weights",
                remedy="resume with those of that run, or start a new training",
            )
        if progress.held_out != self.record.held_out_sha256:
            raise InputError(
                f"{path}: was started by a version that held out other images; if resumed, it would be "
                "evaluated on images that it was trained on",
                remedy="finish it with that version, or start a new training",
            )


def _hash(data: LabelledImages) -> hashlib._Hash:
    """Return the SHA-256 of images and their labels, to be continued or read."""
    digest = hashlib.sha256()
    for block in blocks(data.images):
        digest.update(block.tobytes())
    digest.update(np.asarray(data.labels).tobytes())
    return digest


def one_cycle(progress: float, warm_up: float = 0.15) -> float:
    """Return the learning rate at ``progress`` in [0, 1] relative to its peak: linear warm-up, cosine."""
    if progress < warm_up:
        return 0.05 + 0.95 * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def augmented(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return images (B, ..., H, W) shifted and mirrored at random, as `AUGMENTATIONS` says; edges repeat."""
    if how == "none":
        return x
    batch, (height, width) = len(x), x.shape[-2:]
    dy, dx = (
        torch.randint(-most, most + 1, (batch, 1), generator=generator)
        for most in (round(height / 14), round(width / 14))
    )
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    if how == "shift-and-mirror":
        mirror = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirror, columns.flip(1), columns)
    flat = x.reshape(batch, -1, height, width)
    image = torch.arange(batch)[:, None, None, None]
    plane = torch.arange(flat.shape[1])[None, :, None, None]
    return flat[image, plane, rows[:, None, :, None], columns[:, None, None, :]].reshape(x.shape)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
