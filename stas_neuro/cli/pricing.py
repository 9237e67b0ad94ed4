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
            help="What becomes of halted tokens: silent (still stepped), none (computed and thrown away), "
            "core (not stepped where all on a core have halted), power (nor powered); chips can do so much. "
            "If not given: none for a run with --gating none, which takes no other, else silent.",
        ),
        click.option(
            "--schedule",
            type=click.Choice(list(SCHEDULES)),
            help="How the model steps of RUN become hardware steps; the fastest that it allows if not given.",
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
