"""Numbers with units, such as "23.6 pJ", and whether the unit is one of the quantity that an entry has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stas_neuro.chips.entries import UNITS
from stas_neuro.chips.faults import Fault
from stas_neuro.documents import BadDocument, check_number, shown
from stas_neuro.errors import InputError

NUMBERS = ("value", "low", "high")
_LONGEST = 60
"""Largest length of a number with its unit."""
_DIMENSIONS = {"energy": ("energy", "J"), "time": ("time", "s"), "power": ("power", "W")}
_NAMED = {"J": "energy", "s": "time", "W": "power", "B": "memory", "bit": "bits", "Hz": "frequency"}
_EXAMPLES = {"J": "20 pJ", "s": "3.5 ns", "W": "1.2 mW", "B": "128 KiB", "bit": "8 bit", "1": "1024"}


def dimension_of(entry: str) -> tuple[str, str]:
    """Return what an entry, "section.name", measures, and the unit without a prefix ("1" for a number)."""
    section, _, name = entry.partition(".")
    if section in _DIMENSIONS:
        return _DIMENSIONS[section]
    if name.endswith("_bits"):
        return "bits", "bit"
    return ("memory", "B") if "memory" in name else ("a number", "1")


def example_of(entry: str) -> str:
    """Return a number as one can write it for an entry."""
    return "7" if entry.endswith("_exponent") else _EXAMPLES[dimension_of(entry)[1]]


def parse_quantity(text: str, entry: str) -> tuple[float, str]:
    """Return the number and the unit (one of `UNITS` of the section) that a text states.

    Parameters
    ----------
    text : str
        Such as "23.6 pJ", "23.6pJ", "1.5e-12 J", "128 KiB" or, for an entry that is a number, "1024". Every
        SI prefix is allowed. The result is in the unit as written where `UNITS` has it, else in the base
        unit.
    entry : str
        "section.name" of a number.

    Raises
    ------
    InputError
        When it is not a number, or the unit is missing or of another quantity.
    """
    from quantiphy import QuantiPhyError, Quantity  # only profiles with texts need it

    quantity, base = dimension_of(entry)
    shape = f"{quantity} in {base}" if base != "1" else "a number without a unit"
    remedy = f"write {shape}, such as {example_of(entry)}"
    if len(text) > _LONGEST:
        raise InputError(f"is {shown(text)!r}, not a number with a unit", remedy)
    try:
        parsed = Quantity(text, binary=True)
    except QuantiPhyError:
        raise InputError(f"is {shown(text)!r}, not a number with a unit", remedy) from None
    number, unit = float(parsed), parsed.units or "1"
    if unit != base or parsed.name:
        named = f" ({_NAMED[unit]})" if unit in _NAMED else ""
        found = "without a unit" if unit == "1" else f"in {shown(unit)}{named}"
        raise InputError(f"is {shown(text)!r}, {found}", remedy)
    try:
        check_number(number)
    except BadDocument as error:
        raise InputError(str(error), remedy) from None
    section = entry.partition(".")[0]
    written = text.strip().lstrip("+-.0123456789eE,_ ")
    chosen = written if written in UNITS[section] else base
    # 15 digits: as many as were written, without the error of scaling to the base unit and back.
    return float(f"{number / UNITS[section][chosen]:.15g}"), chosen


def plain_numbers(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Return the document of a profile with texts such as "23.6 pJ" as numbers in the unit of their entry.

    An entry without `unit` takes that of its value. Every text that cannot be read is a fault, and its entry
    is left out. Anything that is not an entry is not changed.
    """
    plain, faults = dict(document), list[Fault]()
    for section in UNITS:
        if not isinstance(document.get(section), dict):
            continue
        plain[section] = entries = dict(document[section])
        for name, given in document[section].items():
            if isinstance(given, dict) and any(isinstance(given.get(end), str) for end in NUMBERS):
                entries[name], wrong = _plain(given, f"{section}.{name}")
                faults += wrong
                if wrong:
                    del entries[name]
    return plain, faults


def _plain(given: Mapping[str, Any], entry: str) -> tuple[dict[str, Any], list[Fault]]:
    """Return an entry with plain numbers, all in one unit, and its faults."""
    units = UNITS[entry.partition(".")[0]]
    read, faults = dict[str, tuple[float, str]](), list[Fault]()
    for end in (end for end in NUMBERS if end in given):
        if isinstance(given[end], str):
            try:
                read[end] = parse_quantity(given[end], entry)
            except InputError as error:
                faults.append(Fault(f"{entry}.{end}", error.what, error.remedy))
        elif "unit" not in given:
            what = f"is {shown(repr(given[end]))}, without a unit, beside numbers with one"
            faults.append(Fault(f"{entry}.{end}", what, "write its unit, too"))
    unit = given.get("unit", next((own for _, own in read.values()), ""))
    scale = units.get(unit, 1.0) if isinstance(unit, str) else 1.0  # another unit is refused with the entry
    scaled = {end: float(f"{number * units[own] / scale:.15g}") for end, (number, own) in read.items()}
    return dict(given) | scaled | {"unit": unit}, faults
