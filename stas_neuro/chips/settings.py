"""Values of a profile that the user sets for one price, instead of those of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stas_neuro.chips.entries import ENTRIES, UNITS
from stas_neuro.chips.faults import BadProfile, Fault, similar_entry
from stas_neuro.chips.inheritance import remaining_reasons
from stas_neuro.chips.profile import Capability, Entry, Profile, Source
from stas_neuro.chips.quantities import NUMBERS, parse_quantity
from stas_neuro.documents import shown
from stas_neuro.errors import InputError

BY_USER = "set by the user"
"""Source of values that are set in Python."""
ON_COMMAND_LINE = "set on the command line"
"""Source of values that are set by the option --set."""
Values = Mapping[str, str | float | int]
"""Texts such as "20 pJ", or numbers in the unit that the profile has, by "section.name"; ends by
"section.name.low" and "section.name.high"."""


def with_values(profile: Profile, values: Values, source: str = BY_USER) -> Profile:
    """Return a profile with other values.

    A value that is set has basis `set` and the given source. Its interval is the value itself, unless its
    ends are set too. A note says what was set instead of what. An unavailable entry is then available.

    Parameters
    ----------
    profile : Profile
    values : mapping
        Texts such as "20 pJ" by "section.name", or plain numbers, in the unit of the profile; ends of the
        interval by "section.name.low" and "section.name.high". Words for capabilities.
    source : str
        Who set them, in reports.

    Raises
    ------
    BadProfile
        With everything that is wrong: names, texts, units, and what the profile then contradicts.
    """
    if not values:
        return profile
    numbers, words, faults = _sorted(values)
    entries: dict[str, Entry | Capability] = {}
    for name, ends in numbers.items():
        try:
            entries[name] = _entry(profile, name, ends, source)
        except BadProfile as wrong:
            faults += wrong.faults
    entries |= {
        name: Capability(value=word, basis="set", source=source, note=_instead(profile, name))
        for name, word in words.items()
    }
    if faults:
        raise BadProfile(source, faults)
    try:
        return _changed(profile, entries, source)
    except BadProfile as wrong:
        raise BadProfile(source, wrong.faults) from None


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """Return the values that texts such as "energy.synaptic_operation=20pJ" set; the last of a name counts.

    Raises
    ------
    InputError
        For a text without "=".
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            remedy = "write ENTRY=VALUE, such as energy.synaptic_operation=20pJ"
            raise InputError(f"--set {shown(text)!r} sets nothing", remedy)
        values[name.strip()] = value.strip()
    return values


@dataclass(frozen=True)
class _End:
    """A number that is set: its text, or a plain number in the unit of the profile."""

    key: str
    given: str | float


def _sorted(values: Values) -> tuple[dict[str, dict[str, _End]], dict[str, str], list[Fault]]:
    """Divide values into the ends of numbers by entry, words by capability, and faults."""
    numbers: dict[str, dict[str, _End]] = {}
    words: dict[str, str] = {}
    faults: list[Fault] = []
    for key, given in values.items():
        name, _, end = str(key).rpartition(".")
        name, end = (name, end) if name in ENTRIES and end in NUMBERS else (str(key), "value")
        if name not in ENTRIES:
            faults.append(Fault(shown(str(key)), "there is no such entry", similar_entry(name)))
        elif name.startswith("capabilities."):
            words[name] = str(given)
        elif isinstance(given, str | int | float) and not isinstance(given, bool):
            numbers.setdefault(name, {})[end] = _End(str(key), given)
        else:
            faults.append(
                Fault(str(key), f"is {shown(repr(given))}", "give a number or a text such as 20 pJ")
            )
    return numbers, words, faults


def _entry(profile: Profile, name: str, ends: Mapping[str, _End], source: str) -> Entry:
    """Return an entry with the ends that are set; without a value only the ends are others."""
    before, units = profile.entries().get(name), UNITS[name.partition(".")[0]]
    read: dict[str, tuple[float, str]] = {}
    faults: list[Fault] = []
    for end, setting in ends.items():
        try:
            read[end] = _number(setting.given, name, before)
        except InputError as error:
            faults.append(Fault(setting.key, error.what, error.remedy))
    if "value" not in ends and before is None:
        what = f"is set, and profile {profile.name} has no {name}"
        faults.append(Fault(next(iter(ends.values())).key, what, f"set {name}, too"))
    if faults:
        raise BadProfile(source, faults)
    unit = read["value"][1] if "value" in read or before is None else before.unit
    found = {end: float(f"{number * units[own] / units[unit]:.15g}") for end, (number, own) in read.items()}
    if "value" in found or before is None:
        low, value, high = (found.get(end, found["value"]) for end in ("low", "value", "high"))
    else:
        low, value, high = (found.get(end, getattr(before, end)) for end in ("low", "value", "high"))
    note = _instead(profile, name)
    interval = source if low < high else ""
    return Entry(
        value=value, low=low, high=high, unit=unit, basis="set", source=source, interval=interval, note=note
    )


def _number(given: str | float, name: str, before: Entry | None) -> tuple[float, str]:
    if isinstance(given, str):
        return parse_quantity(given, name)
    if before is None:
        raise InputError(f"is {given}, without a unit", "write it with its unit, as a text")
    return float(given), before.unit


def _instead(profile: Profile, name: str) -> str:
    """Say what the profile has where something else is set."""
    if (before := profile.entries().get(name)) is not None:
        ends = f" ({before.low:g} to {before.high:g})" if before.low < before.high else ""
        return f"instead of {before.value:g} {before.unit}{ends} of {profile.name}"
    word = profile.capabilities.get(name.partition(".")[2]) if name.startswith("capabilities.") else None
    if word is not None:
        return f"instead of {word.value} of {profile.name}"
    return f"{profile.name} has none"


def _changed(profile: Profile, entries: Mapping[str, Entry | Capability], source: str) -> Profile:
    """Return the profile with entries, their source, and a note for each."""
    own: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        section, _, key = name.partition(".")
        own.setdefault(section, {})[key] = entry
    changes: dict[str, Any] = {name: {**getattr(profile, name), **given} for name, given in own.items()}
    notes = [f"{source}: {name} is {stated(entry)}, {entry.note}" for name, entry in entries.items()]
    return replace(
        profile,
        **changes,
        unavailable=remaining_reasons(own, {"unavailable": profile.unavailable}),
        inherited={name: whose for name, whose in profile.inherited.items() if name not in entries},
        sources={**profile.sources, source: Source(citation=source)},
        notes=[*notes, *profile.notes],
    )


def stated(entry: Entry | Capability) -> str:
    """Return a value with its unit and its interval, as a text."""
    if isinstance(entry, Capability):
        return entry.value
    ends = f" ({entry.low:g} to {entry.high:g})" if entry.low < entry.high else ""
    return f"{entry.value:g} {entry.unit}{ends}"


def settings_of(profile: Profile) -> dict[str, str]:
    """Return what `with_values` was given, as texts that set the same values again."""
    texts: dict[str, str] = {}
    for name, entry in values_set(profile).items():
        if isinstance(entry, Capability):
            texts[name] = entry.value
            continue
        unit = "" if entry.unit == "1" else f" {entry.unit}"
        texts[name] = f"{entry.value!r}{unit}"
        if entry.low < entry.high:
            texts |= {f"{name}.low": f"{entry.low!r}{unit}", f"{name}.high": f"{entry.high!r}{unit}"}
    return texts


def values_set(profile: Profile) -> dict[str, Entry | Capability]:
    """Return the entries of a profile that the user set, by "section.name"."""
    words = {f"capabilities.{name}": word for name, word in profile.capabilities.items()}
    every: dict[str, Entry | Capability] = {**profile.entries(), **words}
    return {name: entry for name, entry in every.items() if entry.basis == "set"}
