"""Inheritance of entries from the profile that a profile extends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stas_neuro.chips.entries import ENTRIES, SECTIONS
from stas_neuro.errors import InputError

KEY = "extends"
"""Key in a profile's file with the profile to extend: a catalogue name, or a path relative to the file."""


def inherit(own: dict[str, Any], parent: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the document of a profile, completed by that of the profile it extends.

    The document takes precedence: an entry set in it is no longer unavailable, an entry declared unavailable
    in it is no longer set, and a key such as `notes` or `step_law` replaces that of the parent. Everything
    else is inherited, and `inherited` has the name of the profile that it comes from.

    Raises
    ------
    InputError
        When a section is not a table, or a source key has a different citation in the parent. The message
        names `where`.
    """
    for section in (*SECTIONS, "unavailable", "sources"):
        if not isinstance(own.get(section, {}), dict):
            raise InputError(f"{where}: {section} is not a table", "write its entries as [section.name]")
    merged = {**parent, **own}
    merged["sources"] = _sources(own, parent, where)
    reasons, above = own.get("unavailable", {}), remaining_reasons(own, parent)
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
    """Return the name of the profile that defines an entry of the parent, or declares it unavailable."""
    known: dict[str, str] = parent.get("inherited", {})
    above: str = parent["name"]
    return known.get(name, above)


def remaining_reasons(own: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, str]:
    """Return the parent's reasons for unavailable entries that are still valid.

    The reason of a section with entries in `own` becomes the reason of each of its other entries.
    """
    given = {f"{section}.{name}" for section in SECTIONS for name in own.get(section, {})}
    reasons: dict[str, str] = {}
    for name, reason in parent.get("unavailable", {}).items():
        section = [entry for entry in ENTRIES if entry.split(".")[0] == name]
        if given & set(section):
            reasons |= dict.fromkeys((entry for entry in section if entry not in given), reason)
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
                f"{where}: sources.{key} has a different citation in {parent['name']}", "use another key"
            )
    return {**above, **mine}
