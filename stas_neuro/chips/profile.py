"""Hardware profiles: limits and capabilities of a chip, and the costs of its events.

Every number has a unit, an interval, a basis and a source. docs/profiles.md documents format and catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from stas_neuro.chips.entries import ENTRIES, UNITS
from stas_neuro.chips.faults import PLACING, BadProfile, faults_of
from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.errors import InputError

SCHEMA_VERSION = 1
Basis = Literal["measured", "simulated", "fitted", "vendor", "assumed", "set"]
Corners = npt.NDArray[np.float64]
"""Numbers in SI units; the last axis is (low, value, high)."""

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
        measured (on silicon), simulated, fitted (to measurements), vendor (brochure), assumed (not
        published) or set (by the user, see `with_values`).
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Profile(Displayed):
    """A hardware profile. Entries are named "section.name", such as `energy.synaptic_operation`.

    `extends` names the profile that its file extends. `inherited` maps "section.name" to the profile that
    defines an entry or declares it unavailable.

    Raises
    ------
    BadProfile
        At construction, when a number is outside its interval, an entry or unit is unknown, or a source,
        interval or reason is missing. It has all faults, each with its entry.
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
        if faults := list(faults_of(self)):
            raise BadProfile("", faults)

    def _headline(self) -> str:
        bases = Counter(entry.basis for entry in self.entries().values()).most_common()
        counts = ", ".join(f"{basis} {count}" for basis, count in bases)
        return f"{self.name}: {self.title}, {len(self.entries())} numbers ({counts or 'none'})"

    def _tables(self) -> Iterable[HtmlTable]:
        rows = [
            (name, f"{e.value:g}", f"{e.low:g} to {e.high:g}", e.unit, e.basis, e.source)
            for name, e in self.entries().items()
        ]
        yield HtmlTable(rows, ("entry", "value", "interval", "unit", "basis", "source"))
        words = [(name, given.value, given.basis) for name, given in self.capabilities.items()]
        yield HtmlTable(words, ("capability", "value", "basis"))

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
            return next((why for entry in PLACING if (why := self.reason(entry)) is not None), None)
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
