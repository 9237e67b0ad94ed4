"""``stas-export profiles``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import PATH, emit_json, emit_table, force_option, stas_command, with_examples
from stas_neuro.cli.pricing import Settings, chosen_profile, set_option
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.files import check_outputs

if TYPE_CHECKING:
    from stas_neuro.chips import Capability, Entry, Profile

_EXAMPLES = (
    "stas-export profiles list",
    "stas-export profiles show loihi2",
    "stas-export profiles validate my_chip.toml",
    "stas-export profiles new my_chip --from loihi2 -o my_chip.toml",
)


@click.group(
    no_args_is_help=False,
    help=with_examples(
        "List, show, validate and start hardware profiles: TOML files in which every number has its source.",
        _EXAMPLES,
    ),
)
def command() -> None:
    """Group the commands."""


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
@set_option
def show(profile: str, settings: Settings, as_json: bool) -> None:
    """Show every number of a profile with its interval, basis, source and the profile that defines it."""
    loaded = chosen_profile(profile, settings)
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
    own = profile.name if profile.inherited and given.basis != "set" else ""
    whose = profile.inherited.get(name, own)
    return given.source, "second hand" if given.second_hand else "", whose


@stas_command(_EXAMPLES[2], name="validate")
@click.argument("profile", metavar="NAME|FILE")
@set_option
def validate(profile: str, settings: Settings, as_json: bool) -> None:
    """Check that a profile can be read, and that each entry is given or declared unavailable.

    Exit code 1 if entries are neither; their names are printed. Runs that need them cannot be priced.
    """
    loaded = chosen_profile(profile, settings)
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


@stas_command(_EXAMPLES[3], name="new")
@click.argument("name", metavar="NAME")
@click.option(
    "--from",
    "extends",
    metavar="NAME|FILE",
    help="The profile that the new one extends: only what differs has to be filled in.",
)
@click.option(
    "-o", "--output", required=True, type=PATH, metavar="FILE.toml", help="The profile to start from."
)
@force_option
def new(name: str, extends: str | None, output: Path, force: bool, as_json: bool) -> None:
    """Write a profile to start from, valid as it is, with every entry explained in a comment.

    Without --from each entry is declared unavailable until it is filled in.
    """
    from stas_neuro.chips import parse_profile, profile_path
    from stas_neuro.chips.template import new_profile, template_output

    if output.suffix != ".toml":
        raise InputError(f"{output} does not end in .toml", "give the output a name that ends in .toml")
    written = template_output(output, force=force)
    check_outputs([written], reads=[profile_path(extends)])
    content = new_profile(name, output, extends).encode()
    made = parse_profile(content, str(output))
    written.write(content)
    if as_json:
        emit_json({"profile": str(output), "name": made.name, "extends": made.extends})
        return
    click.echo(f"{output}: fill it in, then: stas-export profiles validate {output}")


command.add_command(listing)
command.add_command(show)
command.add_command(validate)
command.add_command(new)
