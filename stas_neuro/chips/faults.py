"""Faults of a profile: every one is found, and all are reported at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stas_neuro.chips.entries import CAPABILITIES, ENTRIES, SECTIONS, UNITS
from stas_neuro.documents import one_line, shown
from stas_neuro.errors import InputError, closest

if TYPE_CHECKING:
    from stas_neuro.chips.profile import Capability, Entry, Profile

PLACING = tuple(
    f"limits.{name}"
    for name in ("neurons_per_core", "synaptic_memory_per_core", "cores_per_chip", "weight_bits")
)
"""Entries that are all required to place a network on cores."""
_SIZES = (*PLACING[:3], *(f"limits.{name}" for name in ("cores_per_tile", "tiles_x", "tiles_y", "chips")))
"""Limits that are at least 1."""
_MOST, _MOST_BITS = 1 << 53, 64
"""Largest value of a limit (a number, bytes or bits), and of a width of integers in bits."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a profile: the key, its value and the limit, and what to do about it."""

    key: str
    what: str
    remedy: str

    @property
    def statement(self) -> str:
        """The key and what is wrong with it."""
        return f"{self.key}{' ' if self.what.startswith(('is ', 'are ')) else ': '}{self.what}"

    def __str__(self) -> str:
        return one_line(f"{self.statement}; {self.remedy}")


class BadProfile(InputError):
    """A profile that cannot be used; `faults` has every reason, and `where` the file or what set the values.

    The message has all of them in one line; the command line prints each in a line of its own.
    """

    def __init__(self, where: str, faults: Sequence[Fault]) -> None:
        self.where, self.faults = where, tuple(faults)
        first, *more = self.faults
        place = f"{where}: " if where else ""
        if more:
            texts = " | ".join(map(str, self.faults))
            super().__init__(f"{place}{len(self.faults)} problems: {texts}", "see docs/profiles.md")
            self.lines = tuple(map(str, self.faults))
        else:
            super().__init__(f"{place}{first.statement}", first.remedy)

    @property
    def headline(self) -> str:
        """The number of problems, for the command line, which lists them below it."""
        if not self.lines:
            return str(self)
        return one_line(f"{self.where}: {len(self.lines)} problems; see docs/profiles.md")

    def __reduce__(self) -> tuple[type[BadProfile], tuple[str, tuple[Fault, ...]]]:
        return BadProfile, (self.where, self.faults)


def faults_of(profile: Profile) -> Iterator[Fault]:
    """Yield everything that is wrong with a profile whose fields have the right types."""
    for name, entry in profile.entries().items():
        yield from _of_number(name, entry, profile)
    for key, capability in profile.capabilities.items():
        yield from _of_capability(key, capability, profile)
    given = set(profile.entries()) | {f"capabilities.{name}" for name in profile.capabilities}
    for name, reason in profile.unavailable.items():
        place = f"unavailable.{name}"
        if name not in ENTRIES and name not in SECTIONS:
            yield Fault(place, "no such entry or section", similar_entry(name))
            continue
        if not reason:
            yield Fault(place, "no reason", "state why there is no such number")
        if name in given or (name in SECTIONS and getattr(profile, name)):
            yield Fault(place, "the profile has this entry, too", "remove one of them")
    if profile.step_law is None and "time" not in profile.unavailable:
        yield Fault("step_law", "is missing", "set it to sum or max, or declare time unavailable")
    if profile.static_scope is None and "static" in profile.power:
        yield Fault("static_scope", "is missing", "set it to the scope of power.static: core or chip")


def _of_number(name: str, entry: Entry, profile: Profile) -> Iterator[Fault]:
    section = name.split(".")[0]
    if name not in ENTRIES:
        yield Fault(name, "no such entry", similar_entry(name))
        return
    yield from _of_origin(name, entry, profile)
    numbers = (entry.low, entry.value, entry.high)
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        what = f"low, value, high are {numbers}, and one of them is negative or infinite"
        yield Fault(name, what, "use finite numbers of at least 0")
    elif not entry.low <= entry.value <= entry.high:
        yield Fault(name, f"low, value, high are {numbers}", "use low <= value <= high")
    elif entry.low < entry.high and not entry.interval:
        yield Fault(name, "interval is empty", "state how low and high were chosen")
    if entry.unit not in UNITS[section]:
        yield Fault(name, f"unit is '{shown(entry.unit)}'", f"use one of {', '.join(UNITS[section])}")
    elif section == "limits":
        yield from _of_limit(name, entry)


def _of_limit(name: str, entry: Entry) -> Iterator[Fault]:
    scale = UNITS["limits"][entry.unit]
    most = _MOST_BITS if name.endswith(("_bits", "_exponent")) else _MOST
    if not entry.high * scale <= most:
        yield Fault(name, f"high is {entry.high:g} {entry.unit}", f"use at most {most}")
    if name in _SIZES and math.isfinite(entry.value) and int(entry.value * scale) < 1:
        remedy = "use at least 1, or declare it unavailable"
        yield Fault(name, f"value is {entry.value:g} {entry.unit}", remedy)


def _of_capability(key: str, given: Capability, profile: Profile) -> Iterator[Fault]:
    name, known = f"capabilities.{key}", CAPABILITIES.get(key)
    if known is None:
        yield Fault(name, "no such entry", similar_entry(name))
        return
    if given.value not in known:
        yield Fault(name, f"value is '{shown(given.value)}'", f"use one of {', '.join(known)}")
    yield from _of_origin(name, given, profile)


def _of_origin(name: str, given: Entry | Capability, profile: Profile) -> Iterator[Fault]:
    if given.source not in profile.sources:
        what = f"source '{shown(given.source)}' is not in [sources]"
        yield Fault(name, what, "add its citation there")
    if given.basis == "assumed" and not given.note:
        yield Fault(name, "note is empty", "state the reason for the assumed value")


def similar_entry(name: str) -> str:
    """Return the remedy for an unknown "section.name": a similar one, and those of its section."""
    section = name.partition(".")[0]
    own = [each for each in ENTRIES if each.startswith(f"{section}.")]
    if own:
        return similar_to(name, own)
    similar = closest(name, (*SECTIONS, *ENTRIES))
    hint = "" if similar is None else f"did you mean {similar}? "
    return f"{hint}Name an entry as section.name, with a section of {', '.join(SECTIONS)}"


def similar_to(name: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown name."""
    similar = closest(name, known)
    use = "use" if similar is None else f"did you mean {similar}? Use"
    return f"{use} one of {', '.join(known)}"


def structural_faults(
    errors: Sequence[Mapping[str, Any]], fields: Mapping[str, Collection[str]]
) -> Iterator[Fault]:
    """Yield the faults that errors of pydantic stand for; keys that one entry lacks are one fault.

    `fields` are the keys of the file, under "", and those of an entry by section.
    """
    lacking: dict[str, list[str]] = {}
    for error in errors:
        *above, key = (str(part) for part in error["loc"])
        if error["type"] == "missing":
            lacking.setdefault(".".join(above), []).append(key)
            continue
        place = shown(".".join((*above, key)), 120)
        if error["type"] == "unexpected_keyword_argument":
            known = fields[above[0]] if len(above) == 2 and above[0] in fields else fields[""]
            yield Fault(place, "there is no such key", similar_to(key, known))
        else:
            message = error["msg"].removeprefix("Input should be ")
            yield Fault(place, f"is {shown(repr(error['input']))}", f"it should be {message}")
    for above_all, keys in lacking.items():
        names = [".".join(filter(None, (above_all, key))) for key in keys]
        verb = "is" if len(names) == 1 else "are"
        yield Fault(shown(", ".join(names), 300), f"{verb} missing", "add what is missing")
