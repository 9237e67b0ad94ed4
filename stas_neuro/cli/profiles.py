"""``stas-export profiles``."""

from __future__ import annotations

from dataclasses import asdict

import click

from stas_neuro.cli.common import emit_json, emit_table, stas_command, with_examples
from stas_neuro.energy import Profile, list_profiles, load_profile
from stas_neuro.errors import CheckFailed

_EXAMPLES = (
    "stas-export profiles list",
    "stas-export profiles show loihi2",
    "stas-export profiles validate my_chip.toml",
)


@click.group(
    no_args_is_help=False,
    help=with_examples(
        "List, show and validate hardware profiles: a TOML file a chip, each number with its source.",
        _EXAMPLES,
    ),
)
def command() -> None:
    """Hold the three commands."""


@stas_command(_EXAMPLES[0], name="list")
def listing(as_json: bool) -> None:
    """List the profiles of the catalogue."""
    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        emit_json([{"name": p.name, "title": p.title, "missing": p.missing()} for p in profiles])
        return
    emit_table(("profile", "what it is", "numbers"), [(p.name, p.title, len(p.entries())) for p in profiles])


@stas_command(_EXAMPLES[1], name="show")
@click.argument("profile", metavar="NAME|FILE")
def show(profile: str, as_json: bool) -> None:
    """Show every number of a profile with its interval, basis and source."""
    loaded = load_profile(profile)
    if as_json:
        emit_json(asdict(loaded))
        return
    click.echo(f"{loaded.name}: {loaded.title}")
    rows = [
        (name, f"{e.value:g}", f"{e.low:g} to {e.high:g}", e.unit, e.basis, e.source)
        for name, e in loaded.entries().items()
    ]
    rows += [
        (f"capabilities.{name}", c.value, "", "", c.basis, c.source)
        for name, c in loaded.capabilities.items()
    ]
    emit_table(("entry", "value", "interval", "unit", "basis", "source"), rows)
    for name, reason in loaded.unavailable.items():
        click.echo(f"unavailable: {name}: {reason}")
    for note in loaded.notes:
        click.echo(f"note: {note}")
    for key, source in loaded.sources.items():
        click.echo(f"[{key}] {source.citation}")


@stas_command(_EXAMPLES[2], name="validate")
@click.argument("profile", metavar="NAME|FILE")
def validate(profile: str, as_json: bool) -> None:
    """Check that a profile can be read, and that each entry is given or declared unavailable.

    Exit code 1 names the entries that are neither: what needs them cannot be priced.
    """
    loaded = load_profile(profile)
    missing = loaded.missing()
    if as_json:
        emit_json({"profile": profile, "name": loaded.name, "valid": not missing, "missing": missing})
    _require_complete(profile, loaded, missing)
    if not as_json:
        click.echo(f"{profile}: complete, {len(loaded.entries())} numbers")


def _require_complete(where: str, profile: Profile, missing: list[str]) -> None:
    if missing:
        raise CheckFailed(
            f"{where}: {profile.name} lacks {', '.join(missing)}",
            "add them with their sources, or say under [unavailable] why there are none",
        )


command.add_command(listing)
command.add_command(show)
command.add_command(validate)
