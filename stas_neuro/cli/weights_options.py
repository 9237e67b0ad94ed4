"""Options of commands that take a file of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from stas_neuro.errors import InputError
from stas_neuro.models.config import BACKBONES


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    from stas_neuro.importers.weights import parse_numbers

    return parse_numbers(text)


_OPTIONS = (
    click.option(
        "--arch",
        type=click.Choice(tuple(BACKBONES)),
        help="MODEL is a file of released weights (.pth, .pt, .pth.tar, .safetensors) of this architecture.",
    ),
    click.option(
        "--heads", type=click.IntRange(min=1), metavar="N", help="Heads of attention of these weights."
    ),
    click.option(
        "--ema", is_flag=True, help="Take the moving average of the weights (EMA) that the file also holds."
    ),
    click.option(
        "--time-steps", type=click.IntRange(min=1), metavar="T", help="Time steps.  [default: 4, events 16]"
    ),
    click.option(
        "--image-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Height and width of images.  [default: 32 with names of CIFAR, 224 of ImageNet, 128 of events]",
    ),
    click.option("--mean", callback=_numbers, metavar="M,...", help="Mean of pixels in 0..1, by channel."),
    click.option(
        "--std", callback=_numbers, metavar="S,...", help="Standard deviation of pixels, by channel."
    ),
    click.option(
        "--tau",
        type=float,
        metavar="TAU",
        help="Membrane time constant in steps.  [default: 2; events of Spikingformer 1.5]",
    ),
    click.option(
        "--threshold", type=float, metavar="V", help="Threshold of neurons.  [default: the file's, or 1]"
    ),
    click.option(
        "--attention-threshold",
        type=float,
        metavar="V",
        help="Threshold of neurons behind attention.  [default: the file's, or 0.5]",
    ),
    click.option(
        "--attention-scale",
        type=float,
        metavar="F",
        help="What attention is multiplied with.  [default: 0.125; events of Spikformer 0.25]",
    ),
)


def weights_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a file of weights; the command gets them as `released`, None without an arch.

    `time_steps` is also an option of other models: without an arch the command gets it by itself.
    """

    @wraps(function)
    def gathered(**words: Any) -> None:
        from stas_neuro.importers.weights import WeightsOptions

        arch = words.pop("arch")
        own = {name: words.pop(name) for name in WeightsOptions.__dataclass_fields__ if name != "arch"}
        words["time_steps"] = own["time_steps"] if arch is None else None
        given = [
            name for name, value in own.items() if value not in (None, False, ()) and name != "time_steps"
        ]
        if arch is None and given:
            name = given[0].replace("_", "-")
            raise InputError(f"--{name} is of a file of weights, and no --arch is given", "give --arch too")
        function(**words, released=None if arch is None else WeightsOptions(arch=arch, **own))

    for option in reversed(_OPTIONS):
        option(gathered)
    return gathered
