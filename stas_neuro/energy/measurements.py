"""Measured runs for calibration, read from a CSV file with one row per run."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stas_neuro.documents import BadDocument, parse_number
from stas_neuro.energy.events import PRICES
from stas_neuro.errors import InputError
from stas_neuro.files import read_bytes

LABEL = "run"
RUNS_LIMIT = 1000
"""Largest number of runs; a fit is repeated without each of them."""
_SIZE_LIMIT = 1 << 24
BUSIEST = "busiest_"
"""Prefix of counts on the core that determines the duration of each hardware step."""
QUANTITIES: Mapping[str, str] = {
    "energy_j": "measured energy of the run in J",
    "energy_std_j": "its standard deviation in J",
    "time_s": "measured time of the run in s",
    "time_std_s": "its standard deviation in s",
    "latency_s": "time during which static power was drawn in s; default: time_s",
    "cores": "cores in use, if static power is per core",
    "chips": "chips in use, if static power is per chip, and for management power",
    "hardware_steps": "hardware steps of the run, each with its barrier",
}
"""Columns other than event counts."""
EVENTS = tuple(price.event for price in PRICES)


@dataclass(frozen=True, eq=False)
class Measurements:
    """Event counts and measured quantities of runs.

    Parameters
    ----------
    source : str
        File they were read from.
    sha256 : str
        SHA-256 of its content.
    runs : tuple of str
        Label of each run.
    columns : mapping of name to float (runs,)
        Counts of `EVENTS`, of all cores and of the busiest core, and `QUANTITIES`; none are negative.
    """

    source: str
    sha256: str
    runs: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[np.float64]]


def read_measurements(path: str | Path) -> Measurements:
    """Read a CSV file: a header, then one row per run.

    Raises
    ------
    InputError
        When the file is not valid CSV, a column is unknown, or a cell is not a number of at least 0. The
        message names the file, row and column.
    """
    content = read_bytes(Path(path), _SIZE_LIMIT)
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}", "use a CSV file in UTF-8") from error
    header = [name.strip() for name in rows[0]] if rows else []
    _check_header(str(path), header)
    if len(rows) < 2:
        raise InputError(f"{path} has no run", "add a row for each measured run")
    if len(rows) - 1 > RUNS_LIMIT:
        raise InputError(f"{path} has {len(rows) - 1} runs", f"use at most {RUNS_LIMIT}")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise InputError(
                f"{path}: run {number} has {len(row)} cells, the header has {len(header)}",
                "use as many cells as the header",
            )
    labels = [str(number) for number in range(1, len(rows))]
    if LABEL in header:
        labels = [row[header.index(LABEL)].strip() for row in rows[1:]]
    columns = {
        name: np.array(
            [
                _number(row[index], name, f"{path}: run {label}")
                for row, label in zip(rows[1:], labels, strict=True)
            ]
        )
        for index, name in enumerate(header)
        if name != LABEL
    }
    return Measurements(str(path), hashlib.sha256(content).hexdigest(), tuple(labels), columns)


def _check_header(path: str, header: list[str]) -> None:
    known = {LABEL, *QUANTITIES, *EVENTS, *(BUSIEST + event for event in EVENTS)}
    for name in header:
        if name not in known:
            raise InputError(
                f"{path}: there is no column '{name}'",
                f"use {', '.join((LABEL, *QUANTITIES, *EVENTS))}, or {BUSIEST} before an event",
            )
        if header.count(name) > 1:
            raise InputError(f"{path}: column {name} occurs more than once", "remove all but one")


def _number(cell: str, name: str, where: str) -> float:
    text = cell.strip()
    try:
        number = parse_number(text)
    except BadDocument as error:
        raise InputError(f"{where}: {name} {error}", "use a number of at least 0") from error
    if number < 0:
        raise InputError(f"{where}: {name} is '{text}'", "use a number of at least 0")
    if number == 0 and name in ("energy_std_j", "time_std_s"):
        raise InputError(f"{where}: {name} is 0", "use the standard deviation, or remove the column")
    return number
