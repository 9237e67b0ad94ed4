"""``stas-export train``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.choices import SCALES_FILE
from stas_neuro.cli.common import (
    PATH,
    data_option,
    emit_json,
    force_option,
    percent,
    stas_command,
    weight_bits_option,
)
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import Output, check_outputs
from stas_neuro.models.config import ACCUMULATIONS, ATTENTIONS, FIRES, PRESETS, READOUTS, STEMS, StasConfig
from stas_neuro.models.config import preset as named_preset
from stas_neuro.training.options import TrainOptions

if TYPE_CHECKING:
    from stas_neuro.data import LabelledImages

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
    "margin": "With accumulate image: an image stops when its largest mean logit leads by this much.",
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
    "augment": "Augment images: shift by up to two pixels and mirror.",
    "holdout": "Number of images held out for evaluation, stratified by class.  [default: 5000, or a tenth "
    "of fewer than 50000]",
    "seed": "Seed of initial weights, order of images, and the images that --limit and --holdout draw.",
    "bfloat16": "Multiply matrices in bfloat16.",
    "compile": "Fuse the neurons' arithmetic with torch.compile; requires a C++ compiler.",
}
_HOLDOUT = 5000
_OUTPUTS = ("config.json", "model.safetensors", "last.safetensors", "log.jsonl", SCALES_FILE)
_STAGE1 = "stage1"


def _model_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each field of the model in `MODEL_HELP`; the default is the preset's value."""
    defaults = {field.name: field.default for field in fields(StasConfig)}
    for name in reversed(MODEL_HELP):
        kind = click.Choice(MODEL_CHOICES[name]) if name in MODEL_CHOICES else type(defaults[name])
        function = click.option(_flag(name), type=kind, help=MODEL_HELP[name])(function)
    return function


def _train_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each field of `TrainOptions`."""
    for field in reversed(fields(TrainOptions)):
        assert field.default is not MISSING
        flag, text = _flag(field.name), TRAIN_HELP[field.name]
        if isinstance(field.default, bool):
            option = click.option(
                f"{flag}/--no-{flag[2:]}", default=field.default, help=text, show_default=True
            )
        elif field.name == "holdout":
            option = click.option(flag, type=int, help=text)
        else:
            option = click.option(
                flag, type=type(field.default), default=field.default, help=text, show_default=True
            )
        function = option(function)
    return function


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@stas_command(
    "stas-export train --data digits --preset tiny -o runs/digits",
    "stas-export train --data fashion-mnist --preset fashion -o runs/fashion --resume",
    "stas-export train --data digits --init runs/digits --qat 4 --stage2-epochs 2 -o runs/digits-4bit",
    "torchrun --nproc-per-node 2 -m stas_neuro.cli train --data digits --preset tiny -o runs/two",
)
@data_option
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="The model; the options up to --margin change it. Required unless --qat is given.",
)
@_model_options
@_train_options
@click.option("--init", type=PATH, metavar="CHECKPOINT", help="Initialise the weights from CHECKPOINT.")
@weight_bits_option(
    "--qat",
    metavar="BITS",
    text="Fine-tune the model of --init, as stage 2, to weights of 2 to 9 bits in integer arithmetic.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only N images, drawn with --seed and stratified by class.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Number of threads of torch.")
@click.option(
    "-o", "--output", required=True, type=PATH, metavar="DIR", help="Directory of the checkpoint to write."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training from its last finished epoch.")
@force_option
def command(  # noqa: C901 - one branch for each way to start a training
    data: str,
    preset: str | None,
    init: Path | None,
    qat: int | None,
    limit: int | None,
    threads: int | None,
    output: Path,
    resume: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model in two stages, first without halting, then with it.

    Writes a checkpoint to DIR, that of stage 1 to DIR/stage1, and one line for each epoch to DIR/log.jsonl.
    After each epoch the state is saved, so that --resume can continue from it.
    """
    from stas_neuro.compiler import CHECKPOINT_FILES, load_model
    from stas_neuro.data import data_path, load_data
    from stas_neuro.labels import sample
    from stas_neuro.training.finetuning import fine_tune

    changes = {name: options[name] for name in MODEL_HELP if options[name] is not None}
    if qat is not None and (init is None or preset is not None or changes):
        what = "--qat fine-tunes the model of --init without changes to it"
        raise InputError(what, "give --init, and neither --preset nor an option of the model")
    if qat is None and preset is None:
        raise InputError("no --preset is given", f"choose one of {', '.join(PRESETS)}")
    if _is_first():
        # A model fine-tuned to integers may be inside the directory of the one it starts from.
        start = () if init is None else (init / name for name in CHECKPOINT_FILES)
        check_outputs([_training(output, resume=resume, force=force)], reads=[data_path(data), *start])
    images = load_data(data, "train")
    if limit is not None:
        images = sample(images, limit, options["seed"])
    if options["holdout"] is None:
        options["holdout"] = min(_HOLDOUT, max(1, len(images) // 10))
    settings = TrainOptions(**{field.name: options[field.name] for field in fields(TrainOptions)})
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it at import
    with needs("torch"):
        from stas_neuro.training.train import classes_of, fit, train
    if qat is not None:
        assert init is not None
        config = load_model(init).config
    else:
        assert preset is not None
        config = named_preset(preset).replace(**changes)
    # Report what does not fit before an earlier training is removed.
    fitted = fit(config, images, settings, classes_of(init))

    def prepare() -> None:
        # Check again, now that the directory is locked.
        _training(output, resume=resume, force=force).check_free()
        if not resume:
            _clear(output)

    epochs: list[dict[str, Any]] = []
    notes: list[str] = []
    with _reporting(epochs, notes) as report:
        if qat is not None and init is not None:
            fine_tune(init, images, qat, settings, output, resume=resume, prepare=prepare, report=report)
        else:
            train(config, images, settings, output, init=init, resume=resume, prepare=prepare, report=report)
    if _is_first():
        guessing = math.log(fitted.num_classes)
        if epochs and (loss := epochs[-1]["cross_entropy"]) > guessing:
            notes.append(f"the loss on held-out images is {loss:.3g}, above that of guessing, {guessing:.3g}")
        _tell(output, images, settings, epochs, notes, as_json)


def _is_first() -> bool:
    """Whether this is the first process of torch's launcher, the only one that prints and checks files."""
    return os.environ.get("RANK", "0") == "0"


def _training(output: Path, *, resume: bool, force: bool) -> Output:
    """Return the output of a training; a resumed training continues in the same directory."""
    return Output(
        path=output,
        is_earlier=lambda found: any((found / name).is_file() for name in ("log.jsonl", "last.safetensors")),
        otherwise="is not the directory of a training",
        force=force or resume,
        is_directory=True,
        in_place=True,
        instead="--resume it, or --force to start again",
    )


def _clear(output: Path) -> None:
    """Remove an earlier training, so that none of its files is mistaken for one of the new training."""
    for name in (*_OUTPUTS, *(f"{_STAGE1}/{name}" for name in _OUTPUTS)):
        (output / name).unlink(missing_ok=True)


@contextmanager
def _reporting(epochs: list[dict[str, Any]], notes: list[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a receiver of training events, which stores epochs and notes and prints progress on stderr."""
    if not sys.stderr.isatty() or not _is_first():

        def note(event: dict[str, Any]) -> None:
            if event["event"] == "note":
                notes.append(event["text"])
            elif event["event"] == "epoch":
                epochs.append(event)
                click.echo(_epoch(event), err=True)

        yield note
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("training", total=None)

        def draw(event: dict[str, Any]) -> None:
            if event["event"] == "note":
                notes.append(event["text"])
                return
            if event["event"] == "epoch":
                epochs.append(event)
                console.print(_epoch(event))
                return
            text = f"stage {event['stage']} epoch {event['epoch'] + 1} of {event['epochs']}"
            text += f"  loss {event['loss']:.3f}  accuracy {percent(event['accuracy'])}"
            bars.update(bar, completed=event["step"] + 1, total=event["steps"], description=text)

        yield draw


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
