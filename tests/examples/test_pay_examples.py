"""The examples on prices run, and say what their files hold."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import EXAMPLES


def example(name: str, *arguments: str) -> str:
    command = [sys.executable, EXAMPLES / name, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout


@pytest.mark.slow
def test_compare_profiles(tmp_path: Path) -> None:
    told = example(
        "compare_profiles.py",
        "-o",
        str(tmp_path),
        "--images",
        "2",
        "--profiles",
        "cmos45",
        "loihi2-gated-whatif",
    )
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert [(row["profile"], row["gating"]) for row in rows] == [
        ("cmos45", "silent"),
        ("cmos45", "silent"),
        ("loihi2-gated-whatif", "power"),
        ("loihi2-gated-whatif", "power"),
    ] * 2
    assert {row["baseline"] for row in rows} == {"stage 1", "one time step"}
    assert {row["run"] for row in rows} == {"fashion-spikformer", "fashion-spikingformer"}
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "cmos45: priced without a mapping" in told and "not measured" in told


@pytest.mark.slow
def test_does_halting_pay(tmp_path: Path) -> None:
    told = example("does_halting_pay.py", "-o", str(tmp_path), "--images", "2")
    rows = list(csv.DictReader((tmp_path / "pay.csv").read_text().splitlines()))
    assert "Energy saved by halting on 2 Fashion-MNIST images, relative to the same network" in told
    counted = float(next(row["op_count_saving"] for row in rows if row["profile"] == "cmos45"))
    chips = [row for row in rows if row["profile"].startswith("loihi") and "what" not in row["profile"]]
    ends = [
        (float(row["energy_saving_low"]), float(row["energy_saving_high"]))
        for row in chips
        if "(raster)" in row["run"]
    ]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    assert f"{counted:+.0%}, {low:+.0%} to {high:+.0%} and " in " ".join(told.split())
    assert {row["gating"] for row in rows} == {"silent", "core", "power"}
    assert "pipelined-stale (late 11)" in told
