"""Options of commands that import a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from stas_neuro.cli.common import PATH
from stas_neuro.errors import InputError
from stas_neuro.models.config import BACKBONES


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    from stas_neuro.importers.weights import parse_numbers

    return parse_numbers(text)


_OPTIONS = {
    "arch": click.option(
        "--arch",
        type=click.Choice(tuple(BACKBONES)),
        help="The model is a file of released weights of this architecture: .pth, .pt, .pth.tar or "
        ".safetensors.",
    ),
    "heads": click.option(
        "--heads", type=click.IntRange(min=1), metavar="N", help="Heads of attention of these weights."
    ),
    "ema": click.option(
        "--ema", is_flag=True, help="Take the moving average of the weights (EMA) that the file also holds."
    ),
    "time_steps": click.option(
        "--time-steps",
        type=click.IntRange(min=1),
        metavar="T",
        help="Time steps.  [default: 4, events 16; a module of ReLUs is converted to so many]",
    ),
    "image_size": click.option(
        "--image-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Height and width of images.  [default: 32 with names of CIFAR, 224 of ImageNet, 128 of events]",
    ),
    "mean": click.option(
        "--mean", callback=_numbers, metavar="M,...", help="Mean of pixels in 0..1, by channel."
    ),
    "std": click.option(
        "--std", callback=_numbers, metavar="S,...", help="Standard deviation of pixels, by channel."
    ),
    "tau": click.option(
        "--tau",
        type=float,
        metavar="TAU",
        help="Membrane time constant in steps.  [default: 2; events of Spikingformer 1.5]",
    ),
    "threshold": click.option(
        "--threshold", type=float, metavar="V", help="Threshold of neurons.  [default: the file's, or 1]"
    ),
    "attention_threshold": click.option(
        "--attention-threshold",
        type=float,
        metavar="V",
        help="Threshold of neurons behind attention.  [default: the file's, or 0.5]",
    ),
    "attention_scale": click.option(
        "--attention-scale",
        type=float,
        metavar="F",
        help="What attention is multiplied with.  [default: 0.125; events of Spikformer 0.25]",
    ),
}


def module_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of file.py:function and of NIR files."""
    options = (
        click.option(
            "--weights",
            type=PATH,
            metavar="FILE",
            help="Weights for the module of file.py:function: its state_dict, written by torch.save or "
            "safetensors.",
        ),
        click.option(
            "--example",
            type=PATH,
            metavar="FILE",
            help="An .npz whose array example contains inputs of that module (normalised images); the "
            "imported graph is compared with the module on them. It may also contain axes, classes, mean and "
            "std.",
        ),
        click.option(
            "--dt",
            type=float,
            metavar="DT",
            help="Time step of a NIR file, which does not say it: 1e-4 of snnTorch and SpikingJelly, 1 of "
            "sinabs.",
        ),
    )
    for option in reversed(options):
        option(function)
    return function


def weights_options(function: Callable[..., None], own: tuple[str, ...] = ()) -> Callable[..., None]:
    """Add the options of a file of weights; the command gets them as `released`, None without an arch.

    `time_steps` and `ema` are also options of other models: without an arch the command gets them. So are
    those in `own`, names of options that the command has already.
    """
    shared = {"time_steps", "ema", *own}

    @wraps(function)
    def gathered(**words: Any) -> None:
        from stas_neuro.importers.weights import WeightsOptions

        arch = words.pop("arch")
        given = {name: words.pop(name) for name in WeightsOptions.__dataclass_fields__ if name != "arch"}
        words |= {name: given[name] if arch is None else None for name in shared}
        unused = [
            name for name, value in given.items() if value not in (None, False, ()) and name not in shared
        ]
        if arch is None and unused:
            name = unused[0].replace("_", "-")
            raise InputError(f"--{name} is of a file of weights, and no --arch is given", "give --arch too")
        function(**words, released=None if arch is None else WeightsOptions(arch=arch, **given))

    for name, option in reversed(_OPTIONS.items()):
        if name not in own:
            option(gathered)
    return gathered
