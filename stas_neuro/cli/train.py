"""``stas-export train``."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.choices import HALT_MODES, MODES, HaltMode
from stas_neuro.cli.common import (
    PLAIN_INTERVAL_S,
    data_option,
    directory_option,
    duration,
    emit_json,
    force_option,
    if_interrupted,
    is_quiet,
    percent,
    stas_command,
    weight_bits_option,
)
from stas_neuro.cli.models import MODEL
from stas_neuro.cli.weights_options import module_options, weights_options
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs
from stas_neuro.models.config import ACCUMULATIONS, ATTENTIONS, FIRES, PRESETS, READOUTS, STEMS, StasConfig
from stas_neuro.models.config import preset as named_preset
from stas_neuro.training.options import AUGMENTATIONS, RECIPES, TrainOptions, recipe

if TYPE_CHECKING:
    from rich.progress import Progress

    from stas_neuro.cli.imports import Given
    from stas_neuro.data import LabelledImages
    from stas_neuro.importers.weights import WeightsOptions
    from stas_neuro.training.driver import Job

MODEL_HELP = {
    "attention": "SSA, or the spike-driven SDSA.",
    "stem": "How the T time steps of the stem become one.",
    "accumulate": "Accumulation mode of halting scores; off trains without halting.",
    "readout": "Readout mode: the input of the head.",
    "fire": "Whether a neuron fires above or at its threshold.",
    "time_steps": "Time steps T.",
    "depth": "Blocks L.",
    "dim": "Channels D of a token.",
    "heads": "Attention heads.",
    "mlp_ratio": "Hidden channels of an MLP, as a multiple of D.",
    "patch_size": "Side length of a token's patch in pixels.",
    "alpha": "Slope of the halting score.",
    "beta": "Offset of the halting score.",
    "epsilon": "A token halts when its accumulated score reaches 1 - epsilon.",
    "max_visits": "A token halts after this number of visits whatever its score; 0: it may make them all.",
    "token_groups": "Number of groups of tokens, in scan order, that halt together; 0: each halts alone.",
    "margin": "With accumulate image: an image stops when its largest mean logit leads by this much.",
    "summed": "With accumulate image: --margin is that of the sum of logits over steps, not of their mean.",
}
MODEL_CHOICES = {
    "attention": ATTENTIONS,
    "stem": STEMS,
    "accumulate": ACCUMULATIONS,
    "readout": READOUTS,
    "fire": FIRES,
}
TRAIN_HELP = {
    "stage1_epochs": "Epochs without halting.",
    "stage2_epochs": "Epochs with halting.",
    "batch_size": "Images per step, summed over all processes.",
    "stage1_rate": "Peak learning rate of stage 1.",
    "stage2_rate": "Peak learning rate of stage 2.",
    "weight_decay": "Weight decay of AdamW.",
    "label_smoothing": "Label smoothing.",
    "ponder_weight": "Weight of the ponder loss, which reduces the number of visits.",
    "ponder_ramp": "Share of stage 2 over which that weight rises from 0.",
    "ponder_profile": "Weigh visits in the ponder loss by the energy that this profile of a chip gives them.",
    "ponder_mode": "With --ponder-profile: the energy of an image alone, or in a stream.",
    "zombie_weight": "Weight of a penalty on tokens that never halt.",
    "exit_loss": "With --accumulate image: weight of the cross-entropy of an exit after each step.",
    "augment": "How training images are augmented: shift, by up to 2 pixels of 28, or also mirror.",
    "holdout": "Number of images held out for evaluation, stratified by class.",
    "seed": "Seed of initial weights, order of images, and the images that --limit and --holdout draw.",
    "bfloat16": "Multiply matrices in bfloat16.",
    "compile": "Fuse the neurons' arithmetic with torch.compile; requires a C++ compiler.",
}


def _model_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each field of the model in `MODEL_HELP`; the default is the preset's value."""
    defaults = {field.name: field.default for field in fields(StasConfig)}
    for name in reversed(MODEL_HELP):
        kind = click.Choice(MODEL_CHOICES[name]) if name in MODEL_CHOICES else type(defaults[name])
        flag = f"{_flag(name)}/--no-{name}" if kind is bool else _flag(name)
        function = click.option(flag, type=kind, default=None, help=MODEL_HELP[name])(function)
    return function


def _train_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each field of `TrainOptions`."""
    for field in reversed(fields(TrainOptions)):
        assert field.default is not MISSING
        flag, text = _flag(field.name), f"{TRAIN_HELP[field.name]}  [default: {_default(field)}]"
        if isinstance(field.default, bool):
            option = click.option(f"{flag}/--no-{flag[2:]}", default=None, help=text)
        elif field.name == "augment":
            option = click.option(flag, type=click.Choice(list(AUGMENTATIONS)), help=text)
        elif field.name == "ponder_profile":
            option = click.option(flag, metavar="NAME|FILE", help=text)
        elif field.name == "ponder_mode":
            option = click.option(flag, type=click.Choice(list(MODES)), help=text)
        else:
            option = click.option(flag, type=type(field.default), help=text)
        function = option(function)
    return function


def _default(field: Field[Any]) -> str:
    """Describe the default of an option."""
    if field.name == "holdout":
        return "5000, or a tenth of fewer than 50000"
    if field.name == "ponder_profile":
        return "none"
    value = {False: "off", True: "on"}[field.default] if isinstance(field.default, bool) else field.default
    preset = any(field.name in options for options in RECIPES.values())
    return f"{value}, or that of the preset" if preset else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


_HALTING = ("alpha", "beta", "epsilon", "max_visits", "token_groups", "margin", "summed", "readout")
"""Options of a new model that also apply to halting that is added to a network."""
_COUNTS = ("max_visits", "token_groups")


def _weights_options(function: Callable[..., None]) -> Callable[..., None]:
    return weights_options(function, own=("heads", "time_steps"))


@stas_command(
    "stas-export train --data digits --preset tiny -o runs/digits",
    "stas-export train --data fashion-mnist --preset fashion -o runs/fashion --resume",
    "stas-export train --data digits --init runs/digits --qat 4 --stage2-epochs 2 -o runs/digits-4bit",
    "stas-export train --data digits --init net.stas --halting raster -o runs/net",
    "stas-export train --data cifar.npz --init weights.pth --arch spikformer --heads 12 -o runs/cifar",
    "torchrun --nproc-per-node 2 -m stas_neuro.cli train --data digits --preset tiny -o runs/two",
)
@data_option
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="A new model; the options up to --margin change it. Without it the network of --init is fine-tuned.",
)
@_model_options
@_train_options
@click.option(
    "--init",
    type=MODEL,
    metavar="MODEL",
    help="With --preset: initialise the weights from a checkpoint. Else fine-tune MODEL, as stage 2: a "
    "bundle, a NIR file, file.py:function, with --arch a file of released weights, with --qat also a "
    "checkpoint. Shipped models have names.",
)
@click.option(
    "--halting",
    type=click.Choice(HALT_MODES),
    help="Add this halting to the network of --init, with --alpha, --beta, --epsilon, --max-visits, "
    "--token-groups, --margin and --readout.",
)
@weight_bits_option(
    "--qat",
    metavar="BITS",
    text="Fine-tune the network of --init to weights of 2 to 9 bits in integer arithmetic.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only N images, drawn with --seed and stratified by class.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Number of threads of torch.")
@directory_option("Directory to write: a checkpoint, or of a fine-tuned network the bundle trained.zip.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training from its last finished epoch.")
@module_options
@_weights_options
@force_option
def command(
    data: str,
    preset: str | None,
    init: Path | None,
    halting: HaltMode | None,
    qat: int | None,
    limit: int | None,
    threads: int | None,
    output: Path,
    resume: bool,
    weights: Path | None,
    example: Path | None,
    dt: float | None,
    released: WeightsOptions | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model in two stages, first without halting, then with it; or fine-tune a network.

    Writes a checkpoint to DIR, that of stage 1 to DIR/stage1, and one line for each epoch to DIR/log.jsonl.
    A network that is fine-tuned is written as the bundle DIR/trained.zip. After each epoch the state is
    saved, so that --resume can continue from it.
    """
    from stas_neuro.cli.imports import Given
    from stas_neuro.data import data_path, load_data
    from stas_neuro.labels import sample
    from stas_neuro.training.driver import RESULT, default_holdout, run_job, training_output

    request = _Request(
        preset=preset,
        changes={name: options[name] for name in MODEL_HELP if options[name] is not None},
        init=init,
        halting=halting,
        bits=qat,
        given=Given(weights=weights, ema=options["ema"] or None, example=example, released=released, dt=dt),
    )
    reads = request.files()
    if _is_first():
        check_outputs([training_output(output, resume=resume, force=force)], reads=[data_path(data), *reads])
    given = {name: options[name] for name in TRAIN_HELP if options[name] is not None}
    images = load_data(data, "train")
    if limit is not None:
        images = sample(images, limit, given.get("seed", TrainOptions.seed))
    settings = recipe(preset, **{"holdout": default_holdout(images), **given})
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it at import
    job = request.job()
    # Report what does not fit before an earlier training is removed.
    classes = job.check(images, settings)

    if_interrupted("--resume continues from the last finished epoch")
    with _reporting(_plan(images, settings), settings) as report:
        run_job(job, images, settings, output, resume=resume, force=force, report=report)
    if _is_first():
        epochs = report.epochs
        notes = [*(() if job.opened is None else job.opened.notes), *report.notes]
        guessing = math.log(len(classes))
        if epochs and (loss := epochs[-1]["cross_entropy"]) > guessing:
            notes.append(f"the loss on held-out images is {loss:.3g}, above that of guessing, {guessing:.3g}")
        result = output if job.opened is None else output / RESULT
        _tell(result, images, settings, epochs, notes, as_json)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the options say is trained."""

    preset: str | None
    changes: dict[str, Any]
    init: Path | None
    halting: HaltMode | None
    bits: int | None
    given: Given

    def files(self) -> list[Path]:
        """Return the files that weights are read from; InputError where options do not go together."""
        from stas_neuro.cli.imports import imported_files
        from stas_neuro.compiler import CHECKPOINT_FILES, is_checkpoint

        self._check()
        if self.init is None:
            return []
        if self.preset is not None or is_checkpoint(self.init):
            # A model fine-tuned to integers may be inside the directory of the one it starts from.
            return [self.init / name for name in CHECKPOINT_FILES]
        return imported_files(self.init, self._of_network)

    def job(self) -> Job:
        """Open what is trained."""
        from stas_neuro.cli.imports import open_named
        from stas_neuro.compiler import is_checkpoint
        from stas_neuro.passes import AddHalting
        from stas_neuro.training.driver import job_of

        if self.preset is not None:
            config = named_preset(self.preset).replace(**self.changes)
            of_halting = {"--max-visits": config.max_visits, "--token-groups": config.token_groups}
            if config.accumulate == "off" and (
                named := [name for name, value in of_halting.items() if value]
            ):
                what = f"{', '.join(named)} is of halting, and --accumulate is off"
                raise InputError(what, "leave one of them out")
            return job_of(config, init=self.init)
        assert self.init is not None
        words: dict[str, Any] = {
            name: value or None if name in _COUNTS else value  # 0 stands for none
            for name, value in self.changes.items()
            if name in _HALTING
        }
        added = None if self.halting is None else AddHalting(mode=self.halting, **words)
        network = self.init if is_checkpoint(self.init) else open_named(self.init, self._of_network)
        return job_of(network, halting=added, bits=self.bits)

    @property
    def _of_network(self) -> Given:
        """Options of the network of --init; --time-steps is also one of a new model."""
        return replace(self.given, time_steps=self.changes.get("time_steps"))

    def _check(self) -> None:
        from stas_neuro.compiler import is_checkpoint

        asked = {"--halting": self.halting, "--qat": self.bits}
        of_network = [name for name, value in asked.items() if value is not None]
        if self.preset is not None:
            if of_network := [*of_network, *self.given.names]:
                what = f"{', '.join(of_network)} is of a network that exists, and --preset makes a new model"
                raise InputError(what, "leave one of them out")
            return
        if self.init is None:
            what = f"{of_network[0]} is of a network that exists" if of_network else "no --preset is given"
            raise InputError(what, f"give the network as --init, or choose one of {', '.join(PRESETS)}")
        allowed = {"time_steps", *(_HALTING if self.halting is not None else ())}
        if extra := [_flag(name) for name in self.changes if name not in allowed]:
            what = f"{', '.join(extra)} is of a new model, and the network of --init is fine-tuned as it is"
            raise InputError(what, "give neither --preset nor an option of the model, or give --halting too")
        imported = [*self.given.names, *map(_flag, self.changes)]
        if imported and is_checkpoint(self.init):
            what = f"{', '.join(imported)} is of a network that is imported, and {self.init} is a checkpoint"
            raise InputError(what, "leave it out")


def _is_first() -> bool:
    """Whether this is the first process of torch's launcher, the only one that prints and checks files."""
    return os.environ.get("RANK", "0") == "0"


class _Progress:
    """Receives the events of a training, keeps epochs and notes, and prints progress on stderr.

    On a terminal it draws a bar; elsewhere it prints a line for each epoch, and every `PLAIN_INTERVAL_S`.
    """

    def __init__(self, plan: str, settings: TrainOptions, bars: Progress | None, *, silent: bool) -> None:
        self.plan = plan
        self.epochs: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._epochs_before = {1: 0, 2: settings.stage1_epochs}
        self._epochs_of_all = settings.stage1_epochs + settings.stage2_epochs
        self._bars, self._silent = bars, silent
        self._bar = None if bars is None else bars.add_task("training", total=None)
        self._start = self._printed = time.monotonic()
        self._first: float | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "note":
            self.notes.append(event["text"])
        elif event["event"] == "epoch":
            self.epochs.append(event)
            self._print(_epoch(event))
        else:
            self._batch(event)

    def _batch(self, event: dict[str, Any]) -> None:
        done = self._epochs_before[event["stage"]] + event["epoch"] + (event["step"] + 1) / event["steps"]
        if self._first is None:  # the first step also prepares, and a resumed training starts behind others
            self._first, self._start = done, time.monotonic()
            self._print(self.plan)
            return
        seconds = time.monotonic() - self._start
        left = seconds / (done - self._first) * (self._epochs_of_all - done)
        text = f"stage {event['stage']} epoch {event['epoch'] + 1} of {event['epochs']}"
        text += f", loss {event['loss']:.3f}, accuracy {percent(event['accuracy'])}, {duration(left)} left"
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=event["step"] + 1, total=event["steps"], description=text)
        elif time.monotonic() - self._printed >= (PLAIN_INTERVAL_S if self.epochs or seconds > 10 else 3):
            self._print(text)

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        if self._silent:
            return
        if self._bars is not None:
            self._bars.console.print(line)
        else:
            click.echo(line, err=True)


@contextmanager
def _reporting(plan: str, settings: TrainOptions) -> Iterator[_Progress]:
    """Yield a receiver of training events, which prints progress on stderr."""
    silent = is_quiet() or not _is_first()
    if silent or not sys.stderr.isatty():
        yield _Progress(plan, settings, None, silent=silent)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bars:
        yield _Progress(plan, settings, bars, silent=False)


def _plan(images: LabelledImages, settings: TrainOptions) -> str:
    """Say what will be done."""
    kept = len(images) - settings.holdout
    epochs = f"{settings.stage1_epochs} + {settings.stage2_epochs} epochs"
    text = f"{epochs} on {kept} images ({settings.holdout} held out), batches of {settings.batch_size}"
    return f"{text}, augmentation {settings.augment}"


def _epoch(event: dict[str, Any]) -> str:
    return (
        f"stage {event['stage']} epoch {event['epoch'] + 1} of {event['epochs']}: loss {event['loss']:.3f}, "
        f"held-out accuracy {percent(event['accuracy'])}, token ratio {percent(event['token_ratio'])}, "
        f"{event['seconds']:.0f} s"
    )


def _tell(
    output: Path,
    images: LabelledImages,
    settings: TrainOptions,
    epochs: list[dict[str, Any]],
    notes: list[str],
    as_json: bool,
) -> None:
    last = epochs[-1] if epochs else None
    if as_json:
        document = {"checkpoint": str(output), "data": images.source, "images": len(images)}
        emit_json(document | {"held_out": settings.holdout, "notes": notes, "epochs": epochs})
        return
    for note in notes:
        click.echo(f"note: {note}")
    result = ""
    if last is not None:
        result = (
            f": held-out accuracy {percent(last['accuracy'])}, token ratio {percent(last['token_ratio'])}"
        )
    click.echo(f"{output}{result}; next: stas-export compile {output} -o BUNDLE")
