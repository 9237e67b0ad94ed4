"""Measured runs as CSV: profiles are fitted to them, written and read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fuzz.files import Files
from fuzz.target import Target, pick
from fuzz.targets.bundle import command
from stas_neuro.chips import load_profile
from stas_neuro.energy.calibration import calibrate
from stas_neuro.files import read_bytes

ENERGY = b"""run,synops,updates_idle,latency_s,cores,chips,energy_j
blank,0,2000000,0.01,11,1,0.0003
few,1000000,1900000,0.012,11,1,0.0004
some,4000000,1000000,0.008,11,1,0.00045
many,9000000,500000,0.02,11,1,0.0007
idle,0,100000,0.05,11,1,0.0012
"""
TIME = b"""busiest_synops,busiest_updates_active,hardware_steps,chips,time_s,time_std_s
1000,500,10,1,0.0001,0.000001
2000,700,20,1,0.0002,0.000001
0,900,40,2,0.0004,0.000002
5000,0,10,2,0.0003,0.000001
"""
FEW = b"synops,energy_j,energy_std_j\n1000,1e-6,1e-8\n2000,2e-6,1e-8\n"


def make_seeds() -> Sequence[Files]:
    return [{"board.csv": text} for text in (ENERGY, TIME, FEW)]


def read(inputs: Path, output: Path) -> None:
    path = inputs / "board.csv"
    if pick((True, False), read_bytes(path))[0]:
        command("calibrate", path, "--profile", "loihi1", "-o", output / "shown.toml")
        return
    result = calibrate(path, "loihi1")
    json.dumps(result.to_json(), allow_nan=False)
    result.write(output / "board.toml")
    load_profile(output / "board.toml")


TARGET = Target("measurements", make_seeds, read)
