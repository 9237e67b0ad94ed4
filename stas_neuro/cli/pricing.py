"""Options of the commands that price runs."""

from __future__ import annotations

from collections.abc import Callable

import click

from stas_neuro.choices import GATINGS, SCHEDULES


def pricing_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--gating``, ``--schedule`` and ``--weight-bits``."""
    options = (
        click.option(
            "--gating",
            type=click.Choice(list(GATINGS)),
            help="How the chip treats halted tokens: silent (neurons are still updated), none (computed and "
            "discarded), core (a core is not updated once all its tokens have halted), power (such a core is "
            "also powered off). A run with --gating none requires none.  [default: none for such a run, else "
            "silent]",
        ),
        click.option(
            "--schedule",
            type=click.Choice(list(SCHEDULES)),
            help="How the model steps of RUN become hardware steps.  [default: the fastest that RUN allows]",
        ),
        click.option(
            "--weight-bits",
            type=click.IntRange(min=1),
            default=8,
            show_default=True,
            metavar="N",
            help="Bits of a weight in the chip's memory.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
