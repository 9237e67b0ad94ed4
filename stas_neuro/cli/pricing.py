"""Options of the commands that price runs, and the profiles that options name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

import click

from stas_neuro.choices import GATINGS, IDLE_UPDATES, MODES, SCHEDULES, STEMS
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.chips import Profile

Settings = dict[str, str]
"""Values that --set gives, by entry."""


class _Copies(click.ParamType[Any]):
    """A number of at least 1, or fill."""

    name = "copies"

    def convert(self, value: Any, param: object, ctx: object) -> int | Literal["fill"]:
        if value == "fill":
            return "fill"
        try:
            return int(value)
        except ValueError:
            raise InputError(f"--replicas is {value}", "give a number, or fill") from None


_OPTIONS = (
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
        "--mode",
        type=click.Choice(list(MODES)),
        default="single",
        show_default=True,
        help="Price an image alone, or one in a stream of images, which share static power and idle steps.",
    ),
    click.option(
        "--contexts",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="C",
        help="Images in flight on the same neurons, each with its own membranes; requires --mode stream.",
    ),
    click.option(
        "--replicas",
        type=_Copies(),
        default=1,
        show_default=True,
        metavar="N|fill",
        help="Copies of the network; fill: as many as one chip holds.",
    ),
    click.option(
        "--early-end",
        is_flag=True,
        help="End a model step when no token is alive (raster), or a run with its image: a what-if.",
    ),
    click.option(
        "--stem",
        type=click.Choice(list(STEMS)),
        default="shared",
        show_default=True,
        help="A stem that is computed once: its neurons are updated with all others (shared), only while it "
        "works (apart), or are reused for blocks (folded); the last two are what-ifs.",
    ),
    click.option("--microcode", is_flag=True, help="Price neurons that need a program by the time of one."),
    click.option(
        "--idle-update",
        type=click.Choice(list(IDLE_UPDATES)),
        help="Whether neurons without work are updated.  [default: as the profile says; if it says unknown, "
        "stepped, and the totals of skipped are printed too]",
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


def pricing_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a deployment, passed to the command as `deployment`."""

    @wraps(function)
    def command(**given: Any) -> None:
        from stas_neuro.energy import Deployment

        options = {each.name: given.pop(each.name) for each in fields(Deployment)}
        function(deployment=Deployment(**options), **given)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _settings(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Settings:
    if not texts:
        return {}
    from stas_neuro.chips import parse_settings  # imported here: help texts do not need it

    return parse_settings(texts)


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="ENTRY=VALUE",
    callback=_settings,
    help="Set a value of the profile, such as energy.synaptic_operation=20pJ, or an end of its interval, as "
    "energy.synaptic_operation.high=25pJ; can be repeated.",
)
"""Option of every command that takes a profile, passed to it as `settings`."""


def chosen_profile(name: str, settings: Settings) -> Profile:
    """Load a profile with what --set gives."""
    from stas_neuro.chips import ON_COMMAND_LINE, load_profile

    return load_profile(name, settings, source=ON_COMMAND_LINE)


def chosen_profiles(names: str | Iterable[str], settings: Settings) -> list[Profile]:
    """Load profiles, or "all", each with what --set gives."""
    from stas_neuro.chips import ON_COMMAND_LINE, load_profiles

    return load_profiles(names, settings, source=ON_COMMAND_LINE)


def tell_settings(profiles: Iterable[Profile]) -> None:
    """Print which values --set gave, instead of what."""
    from stas_neuro.chips import ON_COMMAND_LINE

    for profile in profiles:
        for note in profile.notes:
            if note.startswith(f"{ON_COMMAND_LINE}: "):
                click.echo(f"{profile.name}: {note}")


def settings_json(profiles: Iterable[Profile]) -> dict[str, Any]:
    """Return the field `set` of a JSON document: the values that --set gave; nothing where there are none."""
    from stas_neuro.chips import settings_of

    given = {profile.name: found for profile in profiles if (found := settings_of(profile))}
    return {"set": given} if given else {}
