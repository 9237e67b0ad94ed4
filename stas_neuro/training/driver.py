"""Training of any network: a new model in two stages, a checkpoint to integers, or a graph that is given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import Bundle
from stas_neuro.choices import SCALES_FILE
from stas_neuro.compiler.model import is_checkpoint, load_model
from stas_neuro.compiler.opened import Opened, open_trained
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError, unknown
from stas_neuro.extras import needs
from stas_neuro.files import Output
from stas_neuro.importers.weights import Weights
from stas_neuro.ir import Graph, HaltMode
from stas_neuro.labels import sample
from stas_neuro.models.config import PRESETS, StasConfig, preset
from stas_neuro.passes import AddHalting
from stas_neuro.training.finetuning import RESULT as RESULT
from stas_neuro.training.finetuning import tune_checkpoint, tune_graph
from stas_neuro.training.options import Target, TrainOptions, recipe

if TYPE_CHECKING:
    from stas_neuro.api import TrainReport
    from stas_neuro.models.stas import StasModel

HOLDOUT = 5000
"""Default number of held-out images; a tenth of fewer than ten times as many."""
_STAGE1 = "stage1"
_OF_MODEL = tuple(field.name for field in fields(StasConfig))
_OF_TRAINING = tuple(field.name for field in fields(TrainOptions))
_FILES = ("config.json", "model.safetensors", "last.safetensors", "log.jsonl", SCALES_FILE, RESULT)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained: a new model, or a network that exists.

    Parameters
    ----------
    config : StasConfig, optional
        A new model, trained in two stages.
    init : Path, optional
        The checkpoint that the new model starts from, or without a config the one that is tuned to integers.
    opened : Opened, optional
        A float graph, which is fine-tuned.
    halting : AddHalting, optional
        Halting to add to that graph first.
    bits : int, optional
        Bits of the weights of the integer program through which the checkpoint or the graph is trained.
    """

    config: StasConfig | None = None
    init: Path | None = None
    opened: Opened | None = None
    halting: AddHalting | None = None
    bits: int | None = None

    def check(self, data: LabelledImages, options: TrainOptions) -> tuple[str, ...]:
        """Check that the data fit what is trained, before anything is written; return its classes."""
        with needs("torch"):
            from stas_neuro.training.train import classes_of, fit, fit_graph
        if self.opened is not None:
            assert isinstance(self.opened.network, Graph)
            fit_graph(self.opened.network, data, options)
            return self.opened.network.classes
        config = self.config
        if config is None:
            assert self.init is not None
            config = load_model(self.init).config
        return fit(config, data, options, classes_of(self.init)).class_names

    def run(self, data: LabelledImages, options: TrainOptions, target: Target) -> StasModel | Bundle:
        """Train, and return the result."""
        if self.opened is not None:
            return tune_graph(self.opened, data, options, target, halting=self.halting, bits=self.bits)
        if self.config is None:
            assert self.init is not None and self.bits is not None
            return tune_checkpoint(self.init, data, self.bits, options, target)
        with needs("torch"):
            from stas_neuro.training.train import train as train_model
        return train_model(
            self.config,
            data,
            options,
            target.directory,
            init=self.init,
            resume=target.resume,
            prepare=target.prepare,
            report=target.report,
        )


def train(  # noqa: PLR0913
    network: StasConfig | StasModel | Weights | Graph | str | Path,
    data: Any,
    directory: str | Path,
    options: TrainOptions | None = None,
    *,
    init: str | Path | None = None,
    halting: HaltMode | AddHalting | None = None,
    bits: int | None = None,
    limit: int | None = None,
    resume: bool = False,
    force: bool = False,
    report: TrainReport = lambda event: None,
    **words: Any,
) -> StasModel | Bundle:
    """Train a network, as ``stas-export train`` does.

    Parameters
    ----------
    network : StasConfig, Weights, Graph, str or Path
        The name of a preset or a configuration, for a new model; or a network that is fine-tuned: the result
        of `open_model` or `open_weights`, a bundle, or (with `bits`) the directory of a checkpoint.
    data : LabelledImages, str or Path
        Images with labels, or a source as for ``--data``; of a known data set its training images.
    directory : str or Path
        Directory to write: of a model the checkpoint, of a graph the bundle ``trained.zip``; and the log.
    options : TrainOptions, optional
        The options; or give its fields as keywords: ``stage2_epochs=3, ponder_weight=0.01``, where others are
        those of the preset (`stas_neuro.training.options.RECIPES`). Fine-tuning is
        stage 2. Default of `holdout`: 5000, or a tenth of fewer than 50000 images. Of a new model the fields
        of `StasConfig`, too, are keywords: ``time_steps=2, depth=1``.
    init : str or Path, optional
        Checkpoint from which a new model starts.
    halting : str or AddHalting, optional
        Halting to add to a graph without, which then learns it; `choose_halting` gives one to start from.
    bits : int, optional
        Fine-tune weights of 2 to 9 bits through the integer program.
    limit : int, optional
        Use only so many images, drawn with the seed and stratified by class.
    resume, force : bool
        Continue, or replace, an earlier training in the directory.
    report : callable, optional
        Called with each event: one per batch, one per epoch, and notes.

    Returns
    -------
    StasModel or Bundle
        The model of a checkpoint, or the bundle of a graph, as written.

    Raises
    ------
    InputError
        If torch is missing, arguments conflict, the data do not fit, or the directory is in use.
    CheckFailed
        If training diverges.
    """
    images = load_data(data, "train")
    if options is not None and words:
        raise InputError("options are given twice", "give TrainOptions, or keywords")
    changes = {name: words.pop(name) for name in [*words] if name in _OF_MODEL}
    for name in words:
        if name not in _OF_TRAINING:
            raise unknown("option of training", name, (*_OF_TRAINING, *_OF_MODEL))
    if limit is not None:
        images = sample(images, limit, options.seed if options else words.get("seed", TrainOptions.seed))
    named = network if isinstance(network, str) and network in PRESETS else None
    settings = options or recipe(named, **{"holdout": default_holdout(images), **words})
    if named is not None:
        network = preset(named)
    if changes:
        if not isinstance(network, StasConfig):
            what = f"{', '.join(changes)} is of a new model, and a network is given"
            raise InputError(what, "leave it out, or give a preset or a StasConfig")
        network = network.replace(**changes)
    added = AddHalting(mode=halting) if isinstance(halting, str) else halting
    job = job_of(network, init=None if init is None else Path(init), halting=added, bits=bits)
    job.check(images, settings)
    return run_job(job, images, settings, Path(directory), resume=resume, force=force, report=report)


def run_job(
    job: Job,
    images: LabelledImages,
    settings: TrainOptions,
    directory: Path,
    *,
    resume: bool,
    force: bool,
    report: TrainReport,
) -> StasModel | Bundle:
    """Train in a directory; an earlier training there is continued or replaced, where that is allowed."""
    output = training_output(directory, resume=resume, force=force)

    def prepare() -> None:
        # Check again, now that the directory is locked.
        output.check_free()
        if not resume:
            clear(output.path)

    target = Target(directory=output.path, resume=resume, prepare=prepare, report=report)
    return job.run(images, settings, target)


def job_of(
    network: StasConfig | StasModel | Weights | Graph | Opened | str | Path,
    *,
    init: Path | None = None,
    halting: AddHalting | None = None,
    bits: int | None = None,
) -> Job:
    """Decide how a network is trained; InputError where the arguments do not go together."""
    if isinstance(network, str) and network in PRESETS:
        network = preset(network)
    if isinstance(network, StasConfig):
        if halting is not None or bits is not None:
            what = "a new model is trained in floats, with the halting of its configuration"
            raise InputError(what, "leave halting and bits out, and fine-tune the result to integers")
        return Job(config=network, init=init)
    if init is not None:
        raise InputError("init is of a new model, and a network is given", "leave one of them out")
    if isinstance(network, str | Path) and is_checkpoint(network):
        if halting is not None or bits is None:
            what = f"{network} is a checkpoint, which is fine-tuned only to integers"
            raise InputError(what, "give bits, or a preset (its accumulate adds halting) that starts from it")
        return Job(init=Path(network), bits=bits)
    opened = network if isinstance(network, Opened) else open_trained(network)
    if not isinstance(opened.network, Graph):
        raise InputError("the network has no float graph to train", "give the graph that it was made from")
    return Job(opened=opened, halting=halting, bits=bits)


def default_holdout(data: LabelledImages) -> int:
    """Return the default number of held-out images."""
    return min(HOLDOUT, max(1, len(data) // 10))


def training_output(directory: Path, *, resume: bool, force: bool) -> Output:
    """Return the output of a training; a resumed training continues in the same directory."""
    return Output(
        path=directory,
        is_earlier=lambda found: any((found / name).is_file() for name in ("log.jsonl", "last.safetensors")),
        otherwise="is not the directory of a training",
        force=force or resume,
        is_directory=True,
        in_place=True,
        instead="--resume it, or --force to start again",
    )


def clear(directory: Path) -> None:
    """Remove an earlier training, so that none of its files is mistaken for one of the new training."""
    for name in (*_FILES, *(f"{_STAGE1}/{name}" for name in _FILES)):
        (directory / name).unlink(missing_ok=True)
