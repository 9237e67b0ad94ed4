"""What a profile takes over from the one that it extends."""

from __future__ import annotations

from typing import Any

from stas_neuro.chips.entries import ENTRIES, SECTIONS
from stas_neuro.errors import InputError

KEY = "extends"
"""Key of a profile's file that names another: a name of the catalogue, or a path relative to the file."""


def inherit(own: dict[str, Any], parent: dict[str, Any], where: str) -> dict[str, Any]:
    """Complete the document of a profile by that of the profile it extends.

    What the document says itself holds: an entry given here is no longer unavailable, one declared
    unavailable here is no longer given, and a key such as `notes` or `step_law` replaces that of the parent.
    Everything else is taken over, and `inherited` tells whose it is.

    Raises
    ------
    InputError
        Naming `where`, when a section is no table, or a key of a source cites something else than above.
    """
    for section in (*SECTIONS, "unavailable", "sources"):
        if not isinstance(own.get(section, {}), dict):
            raise InputError(f"{where}: {section} is not a table", "write its entries as [section.name]")
    merged = {**parent, **own}
    merged["sources"] = _sources(own, parent, where)
    reasons, above = own.get("unavailable", {}), _reasons(own, parent)
    origin: dict[str, str] = {}
    for section in SECTIONS:
        given = own.get(section, {})
        taken = {
            name: entry
            for name, entry in parent.get(section, {}).items()
            if name not in given and section not in reasons and f"{section}.{name}" not in reasons
        }
        merged[section] = {**taken, **given}
        origin |= {f"{section}.{name}": _whose(f"{section}.{name}", parent) for name in taken}
    merged["unavailable"] = {**above, **reasons}
    known = parent.get("unavailable", {})
    origin |= {name: _whose(name if name in known else name.split(".")[0], parent) for name in above}
    return merged | {"inherited": origin}


def _whose(name: str, parent: dict[str, Any]) -> str:
    """Name the profile that an entry of the parent, or the reason why it has none, is written in."""
    known: dict[str, str] = parent.get("inherited", {})
    above: str = parent["name"]
    return known.get(name, above)


def _reasons(own: dict[str, Any], parent: dict[str, Any]) -> dict[str, str]:
    """Give the parent's reasons that still hold; one of a section becomes one of each entry not given."""
    given = {f"{section}.{name}" for section in SECTIONS for name in own.get(section, {})}
    reasons: dict[str, str] = {}
    for name, reason in parent.get("unavailable", {}).items():
        whole = [entry for entry in ENTRIES if entry.split(".")[0] == name]
        if given & set(whole):
            reasons |= dict.fromkeys((entry for entry in whole if entry not in given), reason)
        elif name not in given:
            reasons[name] = reason
    return {
        name: reason
        for name, reason in reasons.items()
        if not {name, name.split(".")[0]} & set(own.get("unavailable", {}))
    }


def _sources(own: dict[str, Any], parent: dict[str, Any], where: str) -> dict[str, Any]:
    mine, above = own.get("sources", {}), parent.get("sources", {})
    for key in mine.keys() & above.keys():
        if mine[key] != above[key]:
            raise InputError(
                f"{where}: sources.{key} cites something else than in {parent['name']}", "use another key"
            )
    return {**above, **mine}
