"""``stas-export profiles``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import emit_json, emit_table, stas_command, with_examples
from stas_neuro.errors import CheckFailed

if TYPE_CHECKING:
    from stas_neuro.chips import Capability, Entry, Profile

_EXAMPLES = (
    "stas-export profiles list",
    "stas-export profiles show loihi2",
    "stas-export profiles validate my_chip.toml",
)


@click.group(
    no_args_is_help=False,
    help=with_examples(
        "List, show and validate hardware profiles: a TOML file for each chip, every number with its source.",
        _EXAMPLES,
    ),
)
def command() -> None:
    """Group the three commands."""


@stas_command(_EXAMPLES[0], name="list")
def listing(as_json: bool) -> None:
    """List the profiles of the catalogue, and the basis of their numbers."""
    from stas_neuro.chips import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        emit_json([_summary(profile) for profile in profiles])
        return
    rows = [
        (profile.name, profile.title, profile.extends, len(profile.entries()), _bases(profile))
        for profile in profiles
    ]
    emit_table(("profile", "title", "extends", "numbers", "basis of its numbers"), rows)


def _summary(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "title": profile.title,
        "extends": profile.extends,
        "bases": dict(_counts(profile)),
        "missing": profile.missing(),
    }


def _counts(profile: Profile) -> Sequence[tuple[str, int]]:
    """Count the numbers by basis, the most frequent first."""
    return Counter(entry.basis for entry in profile.entries().values()).most_common()


def _bases(profile: Profile) -> str:
    return ", ".join(f"{basis} {count}" for basis, count in _counts(profile))


@stas_command(_EXAMPLES[1], name="show")
@click.argument("profile", metavar="NAME|FILE")
def show(profile: str, as_json: bool) -> None:
    """Show every number of a profile with its interval, basis, source and the profile that defines it."""
    from stas_neuro.chips import load_profile

    loaded = load_profile(profile)
    if as_json:
        emit_json(asdict(loaded))
        return
    extends = f" (extends {loaded.extends})" if loaded.extends else ""
    click.echo(f"{loaded.name}: {loaded.title}{extends}")
    words = {f"capabilities.{name}": word for name, word in loaded.capabilities.items()}
    rows = [
        (name, f"{e.value:g}", _ends(e), e.unit, e.basis, *_origin(loaded, name, e))
        for name, e in loaded.entries().items()
    ]
    rows += [(name, c.value, "", "", c.basis, *_origin(loaded, name, c)) for name, c in words.items()]
    emit_table(("entry", "value", "interval", "unit", "basis", "source", "", "from"), rows)
    written: dict[str, Entry | Capability] = {**loaded.entries(), **words}
    for name, given in written.items():
        if given.note:
            click.echo(f"{name}: {given.note}")
    for name, reason in loaded.unavailable.items():
        whose = f" ({loaded.inherited[name]})" if name in loaded.inherited else ""
        click.echo(f"unavailable: {name}: {reason}{whose}")
    for note in loaded.notes:
        click.echo(f"note: {note}")
    for key, source in loaded.sources.items():
        click.echo(f"[{key}] {source.citation}")


def _ends(entry: Entry) -> str:
    return f"{entry.low:g} to {entry.high:g}" if entry.low < entry.high else ""


def _origin(profile: Profile, name: str, given: Entry | Capability) -> tuple[str, str, str]:
    """Return the source, whether it is second-hand, and the profile that defines the entry."""
    whose = profile.inherited.get(name, profile.name if profile.inherited else "")
    return given.source, "second hand" if given.second_hand else "", whose


@stas_command(_EXAMPLES[2], name="validate")
@click.argument("profile", metavar="NAME|FILE")
def validate(profile: str, as_json: bool) -> None:
    """Check that a profile can be read, and that each entry is given or declared unavailable.

    Exit code 1 if entries are neither; their names are printed. Runs that need them cannot be priced.
    """
    from stas_neuro.chips import load_profile

    loaded = load_profile(profile)
    missing = loaded.missing()
    if as_json:
        emit_json({"profile": profile, "name": loaded.name, "valid": not missing, "missing": missing})
    _require_complete(profile, loaded, missing)
    if not as_json:
        inherited = f", {len(loaded.inherited)} entries or reasons inherited" if loaded.inherited else ""
        click.echo(f"{profile}: complete, {len(loaded.entries())} numbers ({_bases(loaded)}){inherited}")


def _require_complete(where: str, profile: Profile, missing: list[str]) -> None:
    if missing:
        raise CheckFailed(
            f"{where}: {profile.name} lacks {', '.join(missing)}",
            "add them with their sources, or give the reason under [unavailable]",
        )


command.add_command(listing)
command.add_command(show)
command.add_command(validate)
