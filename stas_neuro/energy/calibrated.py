"""Results of a calibration, and the TOML profile written from them, which extends the original profile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stas_neuro.chips.catalogue import parse_profile
from stas_neuro.chips.entries import UNITS
from stas_neuro.chips.profile import SCHEMA_VERSION, Profile, Source
from stas_neuro.chips.settings import values_set
from stas_neuro.documents import toml_text
from stas_neuro.energy.result import Interval
from stas_neuro.files import Output, check_outputs

HEADER = "# Written by stas-export calibrate."
"""First line of a calibrated profile; --force replaces only files that begin with it."""
MANAGEMENT_STEP = "time.management_step"
BARRIERS = ("time.barrier", "time.barrier_multi_chip")
_UNIT = {"energy": "pJ", "time": "ns", "power": "mW"}
"""Unit, by section, of an entry that the original profile lacks."""
_OPEN = "The runs do not determine it: of the equally good fits, this is the closest to the original profile"


@dataclass(frozen=True, kw_only=True)
class FittedEntry:
    """A fitted entry, in SI units.

    Parameters
    ----------
    before : Interval or None
        Value in the original profile; None if it had no such entry.
    inflation : float or None
        Variance inflation factor (VIF) caused by the other columns; None where the runs do not determine
        the entry.
    """

    entry: str
    fitted: Interval
    before: Interval | None
    inflation: float | None


@dataclass(frozen=True, kw_only=True)
class RunResidual:
    """A run's measured value, and the values predicted for it, in J or s.

    Parameters
    ----------
    fitted : float
        Prediction of the fit to all runs.
    held_out : float or None
        Prediction of a fit to all other runs; None where these are too few.
    before : float or None
        Prediction of the original profile; None where it lacks an entry.
    """

    run: str
    measured: float
    fitted: float
    held_out: float | None
    before: float | None


@dataclass(frozen=True, kw_only=True)
class Error:
    """Mean and largest relative error over runs; 0.1 is 10 %."""

    mean: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Entries fitted to one measured quantity, `energy_j` or `time_s`.

    Parameters
    ----------
    kept : tuple of str
        Entries kept from the profile; their contribution was subtracted from the measurements.
    error, held_out_error, error_before : Error
        Errors of the fit, of leave-one-out predictions, and of the original profile.
    condition_number : float or None
        Condition number of the columns scaled to length 1; None where the runs do not determine all entries.
    """

    quantity: str
    entries: tuple[FittedEntry, ...]
    kept: tuple[str, ...]
    residuals: tuple[RunResidual, ...]
    error: Error
    held_out_error: Error | None
    error_before: Error | None
    condition_number: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A profile fitted to measured runs.

    `profile` is the original profile, `extends` the catalogue name or path it was loaded from.
    """

    profile: Profile
    extends: str
    source: str
    sha256: str
    runs: int
    confidence: float
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`; the profile is represented by its name."""
        return asdict(self) | {"profile": self.profile.name}

    def write(self, path: str | Path, *, force: bool = False) -> Profile:
        """Write the calibrated profile as a TOML file, and return the profile loaded from it.

        The profile is named after the file. `force` replaces an earlier calibrated profile, but no other
        file.

        Raises
        ------
        InputError
            When the path already exists, or the file cannot be written.
        """
        target = Path(path)
        output = fitted_output(target, force=force)
        check_outputs([output])
        content = self._text(target).encode()
        profile = parse_profile(content, str(target))
        output.write(content)
        return profile

    def _text(self, target: Path) -> str:
        extends = self.extends
        if extends.endswith(".toml"):
            folder = os.path.realpath(target.parent)
            extends = Path(os.path.relpath(os.path.realpath(extends), folder)).as_posix()
        citation = f"{Path(self.source).name}: {self.runs} measured runs (SHA-256 {self.sha256[:16]})"
        key = _free_key(self.profile, target, Source(citation=citation, own=True))
        lines = [
            HEADER,
            f"schema_version = {SCHEMA_VERSION}",
            f"name = {toml_text(target.stem)}",
            f"title = {toml_text(f'{self.profile.title}, calibrated')}",
            f"extends = {toml_text(extends)}",
            "notes = [",
            *(f"  {toml_text(note)}," for note in self._notes()),
            "]",
        ]
        for fit in self.fits:
            for entry in fit.entries:
                lines += ["", *self._entry(entry, fit, key)]
        fitted = [entry.entry for fit in self.fits for entry in fit.entries]
        lines += self._settings(fitted)
        if within := contained(fitted, self.profile):
            why = "contained in the barrier, which was fitted to whole steps"
            lines += ["", "[unavailable]", *(f"{toml_text(name)} = {toml_text(why)}" for name in within)]
        lines += ["", f"[sources.{key}]", f"citation = {toml_text(citation)}", "own = true"]
        return "\n".join(lines) + "\n"

    def _settings(self, fitted: Sequence[str]) -> Iterator[str]:
        """Yield the entries that the user set in the original profile and that were not fitted."""
        given = {name: entry for name, entry in values_set(self.profile).items() if name not in fitted}
        for name, entry in given.items():
            yield from ("", f"[{name}]")
            yield from (f"{key} = {_value(value)}" for key, value in asdict(entry).items())
        for source in dict.fromkeys(entry.source for entry in given.values()):
            yield from ("", f"[sources.{toml_text(source)}]")
            yield f"citation = {toml_text(self.profile.sources[source].citation)}"

    def _entry(self, entry: FittedEntry, fit: Fit, key: str) -> Iterator[str]:
        section = entry.entry.split(".")[0]
        known = self.profile.entries().get(entry.entry)
        unit = known.unit if known is not None else _UNIT[section]
        yield f"[{entry.entry}]"
        for end in ("value", "low", "high"):
            # Six digits exceed the accuracy of a fit; rounding preserves low <= value <= high.
            yield f"{end} = {float(f'{getattr(entry.fitted, end) / UNITS[section][unit]:.6g}')!r}"
        yield from (f"unit = {toml_text(unit)}", 'basis = "fitted"', f"source = {toml_text(key)}")
        chosen = f"{100 * self.confidence:g} % confidence interval of a fit to {self.runs} runs"
        notes = [f"Fitted together with {', '.join(e.entry for e in fit.entries if e is not entry)}"]
        if entry.inflation is None:
            chosen = f"from 0 to the value that explains a run alone: {self.runs} runs do not determine it"
            notes.append(_OPEN)
        yield f"interval = {toml_text(chosen)}"
        if notes := notes if len(fit.entries) > 1 else notes[1:]:
            yield f"note = {toml_text('. '.join(notes))}"

    def _notes(self) -> list[str]:
        notes = []
        for fit in self.fits:
            what = "Energy" if fit.quantity == "energy_j" else "Time"
            line = (
                f"{what} of {self.runs} runs of {Path(self.source).name}, fitted within {_percent(fit.error)}"
            )
            if fit.held_out_error is not None:
                line += f"; runs left out of a fit, within {_percent(fit.held_out_error)}"
            notes += [f"{line}.", *fit.warnings]
        return [*notes, *(f"{self.profile.name}: {note}" for note in self.profile.notes)]


def contained(fitted: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """Return the entries that fitted ones include: both occur once in a hardware step, like a barrier."""
    whole = any(name in BARRIERS for name in fitted) and MANAGEMENT_STEP not in fitted
    return (MANAGEMENT_STEP,) if whole and profile.reason(MANAGEMENT_STEP) is None else ()


def fitted_output(path: Path, *, force: bool) -> Output:
    """Return the output file of a fitted profile, for `check_outputs`."""
    return Output(
        path=path,
        is_earlier=lambda found: found.is_file() and found.read_bytes().startswith(HEADER.encode()),
        otherwise="was not written by calibrate",
        force=force,
    )


def _value(given: str | float | bool) -> str:
    return toml_text(given) if isinstance(given, str) else json.dumps(given)


def _percent(error: Error) -> str:
    return f"{100 * error.mean:.2g} % (worst {100 * error.worst:.2g} %)"


def _free_key(profile: Profile, target: Path, source: Source) -> str:
    """Return a key that the profile does not already use for a different source."""
    key = stem = re.sub(r"[^A-Za-z0-9_-]", "-", target.stem) or "calibration"
    number = 1
    while key in profile.sources and profile.sources[key] != source:
        number += 1
        key = f"{stem}-{number}"
    return key
