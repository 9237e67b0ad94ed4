"""Hardware profiles: what a chip holds and what its events cost.

Every number has its unit, interval, basis and source. docs/profiles.md documents the form and the catalogue.
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
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, read_bytes, toml_table

SCHEMA_VERSION = 1
CHAIN_LIMIT = 16
"""Of profiles that extend each other."""
_REMEDY = "mend the profile (docs/profiles.md has the schema)"
Basis = Literal["measured", "simulated", "fitted", "vendor", "assumed"]
Corners = npt.NDArray[np.float64]
"""Numbers at (low, value, high) along the last axis, in SI units."""

_PLACING = tuple(
    f"limits.{name}"
    for name in ("neurons_per_core", "synaptic_memory_per_core", "cores_per_chip", "weight_bits")
)
"""Without one of these no network can be placed on cores."""
_SIZES = (*_PLACING[:3], *(f"limits.{name}" for name in ("cores_per_tile", "tiles_x", "tiles_y", "chips")))
"""What a chip has at least one of."""
_MOST, _MOST_BITS = 1 << 53, 64
"""Largest number that a limit may be, in pieces, bytes or bits; and of the widths of integers."""
_ARITHMETIC = ("limits.weight_bits", "limits.state_bits", "capabilities.weight_exponents")


class MissingEntry(InputError):
    """A price needs an entry that the profile neither gives nor declares unavailable."""

    def __init__(self, profile: str, entry: str) -> None:
        super().__init__(
            f"profile {profile} has no {entry} ({ENTRIES[entry]})",
            f"add [{entry}] with its source, or say why it is unavailable",
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
        measured (on silicon), simulated, fitted (on measurements), vendor (brochure) or assumed (nobody
        published it).
    source : str
        Key into the profile's sources.
    second_hand : bool
        Whether the number reached us through somebody else's transcription.
    interval : str
        How low and high were chosen; required where they differ from value.
    note : str
        What else to know; required, as the reason for the value, where basis is assumed.
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
    """What a chip can do, in one of the words of `CAPABILITIES`; source, basis and note as of an `Entry`."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    value: str
    basis: Basis
    source: str
    second_hand: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """The integers that a chip's cores compute with.

    Parameters
    ----------
    weight_bits, state_bits : int
        Of the widest weight, and of membranes and synaptic input, sign included.
    exponents : "layer" or "channel"
        What shares a power of two of weights.
    graded_spikes : bool
        Whether one spike can carry an integer.
    """

    weight_bits: int
    exponents: Literal["layer", "channel"]
    state_bits: int
    graded_spikes: bool


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where numbers come from.

    Parameters
    ----------
    citation : str
        Who published or measured them, and where.
    own : bool
        Whether they come from own measurements, and nobody published them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    citation: str
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A chip. Entries are looked up by "section.name", `energy.synaptic_operation` for one.

    `extends` names the profile that its file extends, and `inherited` by "section.name" the profile that an
    entry, or the reason why there is none, comes from.

    Raises
    ------
    InputError
        At construction, naming the entry, when a number is out of its interval, an entry or unit is unknown,
        or a source, interval or reason is missing.
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
                raise InputError(f"unavailable.{name}: no reason", "say why there is no such number")
            if name in self._given() or (name in SECTIONS and getattr(self, name)):
                raise InputError(f"unavailable.{name}: the profile gives it too", "keep one of both")
        if self.step_law is None and "time" not in self.unavailable:
            raise InputError("step_law is missing", "give sum or max, or declare time unavailable")
        if self.static_scope is None and "static" in self.power:
            raise InputError("static_scope is missing", "say whether power.static is of a core or a chip")

    def entries(self) -> dict[str, Entry]:
        """All numbers given, by "section.name"."""
        return {
            f"{section}.{name}": entry for section in UNITS for name, entry in getattr(self, section).items()
        }

    def _given(self) -> set[str]:
        return set(self.entries()) | {f"capabilities.{name}" for name in self.capabilities}

    def missing(self) -> list[str]:
        """Name the entries that are neither given nor declared unavailable; what needs them raises."""
        given = self._given()
        return [name for name in ENTRIES if name not in given and self.reason(name) is None]

    def reason(self, name: str) -> str | None:
        """Tell why entry or section `name` is unavailable; None when the profile does not declare it so.

        The section `limits` is also where no network can be placed, for lack of the size of a core, say.
        """
        if name == "limits":
            return next((why for entry in _PLACING if (why := self.reason(entry)) is not None), None)
        return self.unavailable.get(name, self.unavailable.get(name.split(".")[0]))

    def entry(self, name: str) -> Entry:
        """Give the number `name`; raises MissingEntry where there is none."""
        section, _, key = name.partition(".")
        found: Entry | None = getattr(self, section).get(key)
        if found is None:
            raise MissingEntry(self.name, name)
        return found

    def corners(self, name: str) -> Corners:
        """Give entry `name` in SI units as (low, value, high); raises MissingEntry where there is none."""
        entry = self.entry(name)
        scale = UNITS[name.split(".")[0]][entry.unit]
        return np.array([entry.low, entry.value, entry.high]) * scale

    def limit(self, name: str) -> int:
        """Give the value of `limits.<name>` as a whole number of pieces, bytes or bits."""
        return int(self.corners(f"limits.{name}")[1])

    def capability(self, name: str) -> str:
        """Give the word of `capabilities.<name>`; raises MissingEntry where there is none."""
        if name not in self.capabilities:
            raise MissingEntry(self.name, f"capabilities.{name}")
        return self.capabilities[name].value

    @property
    def arithmetic(self) -> Arithmetic | None:
        """The integers of its cores; None where no network can be placed, or what it would take is not known.

        Raises MissingEntry where an entry is neither given nor declared unavailable.
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
        """Why there is no `arithmetic`; None where there is."""
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
            raise InputError(f"{name}: source '{given.source}' is not in [sources]", "cite it there")
        if given.basis == "assumed" and not given.note:
            raise InputError(f"{name}: note is empty", "what is assumed needs its reason")

    def _check_number(self, name: str, entry: Entry) -> None:
        section = name.split(".")[0]
        if name not in ENTRIES:
            raise InputError(f"{name}: no such entry", f"the profile schema has {', '.join(ENTRIES)}")
        if entry.unit not in UNITS[section]:
            raise InputError(f"{name}: unit is '{entry.unit}'", f"use one of {', '.join(UNITS[section])}")
        numbers = (entry.low, entry.value, entry.high)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise InputError(
                f"{name}: {numbers} has a negative or endless number", "give finite ones, 0 or more"
            )
        if not entry.low <= entry.value <= entry.high:
            raise InputError(f"{name}: low, value, high are {numbers}", "order them")
        if section == "limits":
            most = _MOST_BITS if name.endswith(("_bits", "_exponent")) else _MOST
            if entry.high * UNITS[section][entry.unit] > most:
                raise InputError(f"{name}: high is {entry.high:g} {entry.unit}", f"give at most {most}")
        if name in _SIZES and int(entry.value * UNITS[section][entry.unit]) < 1:
            raise InputError(
                f"{name}: value is {entry.value:g} {entry.unit}",
                "give 1 or more, or declare it unavailable",
            )
        self._check_origin(name, entry)
        if entry.low < entry.high and not entry.interval:
            raise InputError(f"{name}: interval is empty", "say how low and high were chosen")


PROFILE_FOLDERS = "stas_neuro.profiles"
"""Entry points by which other packages add folders of profiles: each names a package with .toml files."""


def list_profiles() -> tuple[str, ...]:
    """Name the profiles of the catalogue, with those that other packages add."""
    return tuple(sorted(_catalogue()))


def _catalogue() -> dict[str, Any]:
    """Files of the catalogue by name; another package cannot replace one of ours."""
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
    """Give the file that `load_profile` reads; None for a profile of the catalogue, and for none."""
    if isinstance(name_or_path, Path) or (name_or_path is not None and name_or_path.endswith(".toml")):
        return Path(name_or_path)
    return None


def load_profile(name_or_path: str | Path) -> Profile:
    """Load a profile of the catalogue by name, or any TOML file by path (a Path, or a text ending in .toml).

    Raises
    ------
    InputError
        When there is no such profile, or its file or one that it extends is wrong: names the file and the
        field.
    """
    content, where = _read(name_or_path)
    return parse_profile(content, where)


def parse_profile(content: bytes, where: str) -> Profile:
    """Make a profile from the bytes of a TOML file.

    Errors name `where`, its path: that of a profile which it extends is relative to it.
    """
    return _validated(_document(content, where, ()), where)


def _read(name_or_path: str | Path) -> tuple[bytes, str]:
    """Give the bytes of a profile, and what errors call it."""
    if (path := profile_path(name_or_path)) is not None:
        return read_bytes(path), str(name_or_path)
    known = _catalogue()
    if name_or_path not in known:
        raise InputError(
            f"no profile is called '{name_or_path}'",
            f"use {', '.join(sorted(known))} or the path of a .toml file",
        )
    resource = known[str(name_or_path)]
    return resource.read_bytes(), str(resource)


def _document(content: bytes, where: str, children: tuple[str, ...]) -> dict[str, Any]:
    """Read a file with all that it inherits; `children` are the files that led to it."""
    document = toml_table(content, where, _REMEDY)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{where}: schema_version is {version}, this version reads {SCHEMA_VERSION}",
            "use a newer stas-neuro",
        )
    if "inherited" in document:
        raise InputError(f"{where}: inherited is not for files", _REMEDY)
    parent = document.get(KEY)
    if not isinstance(parent, str):
        return document
    if "\0" in parent:
        raise InputError(f"{where}: {KEY} is {parent!r}", "name a profile or its file")
    chain = (*children, os.path.realpath(where))
    if len(chain) > CHAIN_LIMIT:
        what = f"{where}: more than {CHAIN_LIMIT} profiles extend each other"
        raise InputError(what, "write what they say into fewer files")
    beside = Path(os.path.realpath(Path(where).parent / parent)) if parent.endswith(".toml") else parent
    try:
        above, place = _read(beside)
    except InputError as error:
        raise InputError(f"{' extends '.join((*chain, parent))}: {error.what}", error.remedy) from error
    if os.path.realpath(place) in chain:
        circle = " extends ".join((*chain, os.path.realpath(place)))
        raise InputError(f"{circle}: a circle", "let one of them extend nothing")
    inherited = _document(above, place, chain)
    _validated(inherited, place)
    return inherit(document, inherited, where)


def _validated(document: dict[str, Any], where: str) -> Profile:
    return parse_json(Profile, json.dumps(document).encode(), where, _REMEDY)
