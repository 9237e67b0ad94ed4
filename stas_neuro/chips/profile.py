"""Hardware profiles: limits and capabilities of a chip, and the costs of its events.

Every number has a unit, an interval, a basis and a source. docs/profiles.md documents format and catalogue.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from stas_neuro.chips.entries import CAPABILITIES, ENTRIES, SECTIONS, UNITS
from stas_neuro.chips.inheritance import KEY, inherit
from stas_neuro.errors import InputError, unknown
from stas_neuro.files import parse_json, read_bytes, toml_table

SCHEMA_VERSION = 1
CHAIN_LIMIT = 16
"""Largest number of profiles in a chain of `extends`."""
_REMEDY = "correct the profile (schema: docs/profiles.md)"
Basis = Literal["measured", "simulated", "fitted", "vendor", "assumed"]
Corners = npt.NDArray[np.float64]
"""Numbers in SI units; the last axis is (low, value, high)."""

_PLACING = tuple(
    f"limits.{name}"
    for name in ("neurons_per_core", "synaptic_memory_per_core", "cores_per_chip", "weight_bits")
)
"""Entries that are all required to place a network on cores."""
_SIZES = (*_PLACING[:3], *(f"limits.{name}" for name in ("cores_per_tile", "tiles_x", "tiles_y", "chips")))
"""Limits that are at least 1."""
_MOST, _MOST_BITS = 1 << 53, 64
"""Largest value of a limit (a number, bytes or bits), and of a width of integers in bits."""
_ARITHMETIC = ("limits.weight_bits", "limits.state_bits", "capabilities.weight_exponents")


class MissingEntry(InputError):
    """An entry is needed that the profile neither has nor declares unavailable."""

    def __init__(self, profile: str, entry: str) -> None:
        super().__init__(
            f"profile {profile} has no {entry} ({ENTRIES[entry]})",
            f"add [{entry}] with its source, or declare it unavailable with a reason",
        )
        self.profile = profile
        self.entry = entry

    def __reduce__(self) -> tuple[type[MissingEntry], tuple[str, str]]:
        return MissingEntry, (self.profile, self.entry)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One published or assumed number.

    Parameters
    ----------
    value, low, high : float
        In `unit`; low <= value <= high.
    basis : str
        measured (on silicon), simulated, fitted (to measurements), vendor (brochure) or assumed (not
        published).
    source : str
        Key into the profile's sources.
    second_hand : bool
        Whether the number was taken from a third party's transcription, not from the original.
    interval : str
        How low and high were chosen; required where low < high.
    note : str
        Remarks; required as the reason for the value where basis is assumed.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    value: float
    low: float
    high: float
    unit: str
    basis: Basis
    source: str
    second_hand: bool = False
    interval: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A capability of a chip, one of the values in `CAPABILITIES`; source, basis and note as in `Entry`."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    value: str
    basis: Basis
    source: str
    second_hand: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Integer arithmetic of a chip's cores.

    Parameters
    ----------
    weight_bits, state_bits : int
        Bits of a weight, and of membranes and synaptic input, including the sign.
    exponents : "layer" or "channel"
        Whether the weights of a layer or of a channel share a power of two.
    graded_spikes : bool
        Whether a spike can have an integer value.
    """

    weight_bits: int
    exponents: Literal["layer", "channel"]
    state_bits: int
    graded_spikes: bool


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source of numbers.

    Parameters
    ----------
    citation : str
        Who published or measured them, and where.
    own : bool
        Whether they are the user's own unpublished measurements.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    citation: str
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A hardware profile. Entries are named "section.name", such as `energy.synaptic_operation`.

    `extends` names the profile that its file extends. `inherited` maps "section.name" to the profile that
    defines an entry or declares it unavailable.

    Raises
    ------
    InputError
        At construction, when a number is outside its interval, an entry or unit is unknown, or a source,
        interval or reason is missing. The message names the entry.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    schema_version: int
    name: str
    title: str
    graded_spikes: bool
    extends: str = ""
    step_law: Literal["sum", "max"] | None = None
    static_scope: Literal["core", "chip"] | None = None
    notes: list[str] = field(default_factory=list)
    energy: Mapping[str, Entry] = field(default_factory=dict)
    time: Mapping[str, Entry] = field(default_factory=dict)
    power: Mapping[str, Entry] = field(default_factory=dict)
    limits: Mapping[str, Entry] = field(default_factory=dict)
    capabilities: Mapping[str, Capability] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    inherited: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, entry in self.entries().items():
            self._check_number(name, entry)
        for name, capability in self.capabilities.items():
            self._check_capability(name, capability)
        for name, reason in self.unavailable.items():
            if name not in ENTRIES and name not in SECTIONS:
                raise InputError(f"unavailable.{name}: no such entry or section", "see docs/profiles.md")
            if not reason:
                raise InputError(f"unavailable.{name}: no reason", "state why there is no such number")
            if name in self._given() or (name in SECTIONS and getattr(self, name)):
                raise InputError(f"unavailable.{name}: the profile has this entry, too", "remove one of them")
        if self.step_law is None and "time" not in self.unavailable:
            raise InputError("step_law is missing", "set it to sum or max, or declare time unavailable")
        if self.static_scope is None and "static" in self.power:
            raise InputError("static_scope is missing", "set it to the scope of power.static: core or chip")

    def entries(self) -> dict[str, Entry]:
        """Return all entries with numbers, by "section.name"."""
        return {
            f"{section}.{name}": entry for section in UNITS for name, entry in getattr(self, section).items()
        }

    def _given(self) -> set[str]:
        return set(self.entries()) | {f"capabilities.{name}" for name in self.capabilities}

    def missing(self) -> list[str]:
        """Return the entries neither set nor declared unavailable; using them raises MissingEntry."""
        given = self._given()
        return [name for name in ENTRIES if name not in given and self.reason(name) is None]

    def reason(self, name: str) -> str | None:
        """Return why entry or section `name` is unavailable; None when it is not declared unavailable.

        `limits` counts as unavailable if any entry that placement requires is, such as the size of a core.
        """
        if name == "limits":
            return next((why for entry in _PLACING if (why := self.reason(entry)) is not None), None)
        return self.unavailable.get(name, self.unavailable.get(name.split(".")[0]))

    def entry(self, name: str) -> Entry:
        """Return entry `name`; raises MissingEntry where there is none."""
        section, _, key = name.partition(".")
        found: Entry | None = getattr(self, section).get(key)
        if found is None:
            raise MissingEntry(self.name, name)
        return found

    def corners(self, name: str) -> Corners:
        """Return entry `name` in SI units, float (3,), as (low, value, high).

        Raises MissingEntry where there is none.
        """
        entry = self.entry(name)
        scale = UNITS[name.split(".")[0]][entry.unit]
        return np.array([entry.low, entry.value, entry.high]) * scale

    def limit(self, name: str) -> int:
        """Return the value of `limits.<name>` as an integer, in bytes or bits where it is a size.

        Raises MissingEntry where there is none.
        """
        return int(self.corners(f"limits.{name}")[1])

    def capability(self, name: str) -> str:
        """Return the value of `capabilities.<name>`; raises MissingEntry where there is none."""
        if name not in self.capabilities:
            raise MissingEntry(self.name, f"capabilities.{name}")
        return self.capabilities[name].value

    @property
    def arithmetic(self) -> Arithmetic | None:
        """Integer arithmetic of the cores; None where an entry that it or placement requires is unavailable.

        Raises MissingEntry where such an entry is neither set nor declared unavailable.
        """
        if self.no_arithmetic is not None:
            return None
        return Arithmetic(
            weight_bits=self.limit("weight_bits"),
            exponents="layer" if self.capability("weight_exponents") == "layer" else "channel",
            state_bits=self.limit("state_bits"),
            graded_spikes=self.graded_spikes,
        )

    @property
    def no_arithmetic(self) -> str | None:
        """Why there is no `arithmetic`; None where there is one."""
        reasons = map(self.reason, ("limits", *_ARITHMETIC))
        return next((reason for reason in reasons if reason is not None), None)

    def _check_capability(self, key: str, given: Capability) -> None:
        name, known = f"capabilities.{key}", CAPABILITIES.get(key)
        if known is None:
            raise InputError(f"{name}: no such entry", f"the section has {', '.join(CAPABILITIES)}")
        if given.value not in known:
            raise InputError(f"{name}: value is '{given.value}'", f"use one of {', '.join(known)}")
        self._check_origin(name, given)

    def _check_origin(self, name: str, given: Entry | Capability) -> None:
        if given.source not in self.sources:
            raise InputError(f"{name}: source '{given.source}' is not in [sources]", "add its citation there")
        if given.basis == "assumed" and not given.note:
            raise InputError(f"{name}: note is empty", "state the reason for the assumed value")

    def _check_number(self, name: str, entry: Entry) -> None:
        section = name.split(".")[0]
        if name not in ENTRIES:
            raise InputError(f"{name}: no such entry", f"the profile schema has {', '.join(ENTRIES)}")
        if entry.unit not in UNITS[section]:
            raise InputError(f"{name}: unit is '{entry.unit}'", f"use one of {', '.join(UNITS[section])}")
        numbers = (entry.low, entry.value, entry.high)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise InputError(
                f"{name}: {numbers} has a negative or infinite number", "use finite numbers of at least 0"
            )
        if not entry.low <= entry.value <= entry.high:
            raise InputError(f"{name}: low, value, high are {numbers}", "use low <= value <= high")
        if section == "limits":
            most = _MOST_BITS if name.endswith(("_bits", "_exponent")) else _MOST
            if entry.high * UNITS[section][entry.unit] > most:
                raise InputError(f"{name}: high is {entry.high:g} {entry.unit}", f"use at most {most}")
        if name in _SIZES and int(entry.value * UNITS[section][entry.unit]) < 1:
            raise InputError(
                f"{name}: value is {entry.value:g} {entry.unit}",
                "use at least 1, or declare it unavailable",
            )
        self._check_origin(name, entry)
        if entry.low < entry.high and not entry.interval:
            raise InputError(f"{name}: interval is empty", "state how low and high were chosen")


PROFILE_FOLDERS = "stas_neuro.profiles"
"""Entry point group by which other packages add profiles: each names a package with .toml files."""


def list_profiles() -> tuple[str, ...]:
    """Return the names of the profiles in the catalogue, including those that other packages add."""
    return tuple(sorted(_catalogue()))


def _catalogue() -> dict[str, Any]:
    """Return the files of the catalogue by name; other packages cannot replace a built-in profile."""
    found: dict[str, Any] = {}
    for folder in ("stas_neuro.hw_profiles", *(point.value for point in entry_points(group=PROFILE_FOLDERS))):
        try:
            items = list(files(folder).iterdir())
        except (ImportError, OSError) as error:
            what = f"the folder of profiles {folder} cannot be read: {error}"
            raise InputError(what, "update the package that registers it, or uninstall it") from error
        for item in items:
            if item.name.endswith(".toml"):
                found.setdefault(item.name.removesuffix(".toml"), item)
    return found


def profile_path(name_or_path: str | Path | None) -> Path | None:
    """Return the path of the file that `load_profile` reads; None for a catalogue profile, and for None."""
    if isinstance(name_or_path, Path) or (name_or_path is not None and name_or_path.endswith(".toml")):
        return Path(name_or_path)
    return None


def load_profile(name_or_path: str | Path) -> Profile:
    """Load a profile of the catalogue by name, or a TOML file by path (a Path, or a str ending in .toml).

    Raises
    ------
    InputError
        When there is no such profile, or its file or one that it extends is invalid. The message names the
        file and the field.
    """
    content, where = _read(name_or_path)
    return parse_profile(content, where)


def parse_profile(content: bytes, where: str) -> Profile:
    """Make a profile from the bytes of a TOML file.

    `where` is the path of the file: errors name it, and the path of an extended profile is relative to it.
    """
    return _validated(_document(content, where, ()), where)


def _read(name_or_path: str | Path) -> tuple[bytes, str]:
    """Return the bytes of a profile, and its name in errors."""
    if (path := profile_path(name_or_path)) is not None:
        return read_bytes(path), str(name_or_path)
    known = _catalogue()
    if name_or_path not in known:
        raise unknown("profile", name_or_path, sorted(known), "the path of a .toml file")
    resource = known[str(name_or_path)]
    return resource.read_bytes(), str(resource)


def _document(content: bytes, where: str, children: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of a file with its inherited entries; `children` are the files that extend it."""
    document = toml_table(content, where, _REMEDY)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{where}: schema_version is {version}, this version supports {SCHEMA_VERSION}",
            "use a newer stas-neuro",
        )
    if "inherited" in document:
        raise InputError(f"{where}: inherited is not allowed in files", _REMEDY)
    parent = document.get(KEY)
    if not isinstance(parent, str):
        return document
    if "\0" in parent:
        raise InputError(f"{where}: {KEY} is {parent!r}", "use the name of a profile or the path of its file")
    chain = (*children, os.path.realpath(where))
    if len(chain) > CHAIN_LIMIT:
        what = f"{where}: more than {CHAIN_LIMIT} profiles extend each other"
        raise InputError(what, "merge them into fewer files")
    location = Path(os.path.realpath(Path(where).parent / parent)) if parent.endswith(".toml") else parent
    try:
        above, place = _read(location)
    except InputError as error:
        raise InputError(f"{' extends '.join((*chain, parent))}: {error.what}", error.remedy) from error
    if os.path.realpath(place) in chain:
        cycle = " extends ".join((*chain, os.path.realpath(place)))
        raise InputError(f"{cycle}: a cycle", "remove one of the extends")
    inherited = _document(above, place, chain)
    _validated(inherited, place)
    return inherit(document, inherited, where)


def _validated(document: dict[str, Any], where: str) -> Profile:
    return parse_json(Profile, json.dumps(document).encode(), where, _REMEDY)
