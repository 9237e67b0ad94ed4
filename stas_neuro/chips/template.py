"""A commented profile to start from, in which every entry of the format is explained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stas_neuro.chips.catalogue import load_profile, profile_path
from stas_neuro.chips.entries import CAPABILITIES, ENTRIES, SECTIONS
from stas_neuro.chips.profile import SCHEMA_VERSION, Profile
from stas_neuro.chips.quantities import example_of
from stas_neuro.documents import shown, toml_text
from stas_neuro.errors import InputError
from stas_neuro.files import Output

HEADER = "# Written by stas-export profiles new."
"""First line of a new profile; --force replaces only files that begin with it."""
_EMPTY = "not filled in yet"
_ABOUT = (
    "# A hardware profile: limits of a chip and costs of its events. docs/profiles.md describes the format.",
    "# Remove the # before an entry and write its number, with a unit. Every number needs a source.",
    "# basis: measured (on silicon), simulated, fitted (on measurements), vendor (its publications),",
    "#   or assumed (then note has the reason). interval: how low and high were chosen, if they differ.",
)


def new_profile(name: str, target: Path, extends: str | None = None) -> str:
    """Return the text of a profile to start from, which is valid as it is.

    Without `extends` every entry is declared unavailable, and a price says so. With it, all entries are
    inherited, and stand in comments with the values that they have.

    Parameters
    ----------
    name : str
        Short name of the chip.
    target : Path
        Where the file will be: the path of an extended file is relative to its folder.
    extends : str, optional
        Name of a profile of the catalogue, or the path of a .toml file.

    Raises
    ------
    InputError
        When the name is empty, or the profile to extend does not exist or is invalid.
    """
    if not name.strip() or not name.isprintable():
        raise InputError(f"the name of a profile is '{shown(name)}'", "give it a short name of plain text")
    parent = None if extends is None else load_profile(extends)
    lines = [HEADER, *_ABOUT, "", f"schema_version = {SCHEMA_VERSION}", f"name = {toml_text(name)}"]
    if parent is None or extends is None:
        lines += [f"title = {toml_text(name)}  # maker, name and technology", *_PROPERTIES.values()]
        lines += ["notes = []  # texts that reports repeat"]
    else:
        lines += [f"title = {toml_text(f'{parent.title}, changed')}"]
        lines += [f"extends = {_relative(extends, target)}"]
        lines += [line for key, line in _PROPERTIES.items() if getattr(parent, key) is None]
    for section in SECTIONS:
        lines += ["", f"# ---- {section} ----"]
        for entry in (entry for entry in ENTRIES if entry.startswith(f"{section}.")):
            lines += ["", *(f"# {line}" for line in _entry(entry, parent))]
    if parent is None:
        lines += ["", "# Remove the line of an entry that is given above, or write why there is no number."]
        lines += ["[unavailable]", *(f"{toml_text(entry)} = {toml_text(_EMPTY)}" for entry in ENTRIES)]
    lines += ["", "# [sources.mine]", '# citation = "Who published or measured the numbers, and where"']
    lines += ["# own = true  # for your own unpublished measurements"]
    return "\n".join(lines) + "\n"


_PROPERTIES = {
    "graded_spikes": "graded_spikes = false  # whether one spike can carry an integer",
    "step_law": 'step_law = "sum"  # sum: a core works in sequence; max: neurons, synapses, messages overlap',
    "static_scope": 'static_scope = "core"  # whether power.static is that of a core or a chip',
}
"""Lines of the properties of a chip."""


def template_output(path: Path, *, force: bool) -> Output:
    """Return the output file of a new profile, for `check_outputs`."""
    return Output(
        path=path,
        is_earlier=lambda found: found.is_file() and found.read_bytes().startswith(HEADER.encode()),
        otherwise="was not written by profiles new",
        force=force,
    )


def _relative(extends: str, target: Path) -> str:
    if profile_path(extends) is None:
        return toml_text(extends)
    path = os.path.relpath(os.path.realpath(extends), os.path.realpath(target.parent))
    return toml_text(Path(path).as_posix())


def _entry(entry: str, parent: Profile | None) -> Iterator[str]:
    """Yield the lines of an entry: its meaning, and the values of the parent or examples."""
    section, _, key = entry.partition(".")
    yield f"{ENTRIES[entry]}{_state(entry, parent)}"
    yield f"[{entry}]"
    if section == "capabilities":
        known = parent.capabilities.get(key) if parent is not None else None
        yield f'value = "{CAPABILITIES[key][0] if known is None else known.value}"  # {_choices(key)}'
    else:
        number = parent.entries().get(entry) if parent is not None else None
        for end in ("value", "low", "high"):
            text = example_of(entry)
            if number is not None:
                unit = "" if number.unit == "1" else f" {number.unit}"
                text = f"{getattr(number, end):g}{unit}"
            yield f'{end} = "{text}"'
        if number is not None and number.low < number.high:
            yield 'interval = "how low and high were chosen"'
    yield 'basis = "measured"'
    yield 'source = "mine"'


def _choices(key: str) -> str:
    return "one of " + ", ".join(CAPABILITIES[key])


def _state(entry: str, parent: Profile | None) -> str:
    """Say what the parent has of an entry."""
    if parent is None:
        return ""
    given = parent.entries().get(entry) or parent.capabilities.get(entry.partition(".")[2])
    if given is not None and (entry in parent.entries() or entry.startswith("capabilities.")):
        return f" ({parent.name}: {given.basis})"
    return f" ({parent.name}: {parent.reason(entry) or 'missing'})"
