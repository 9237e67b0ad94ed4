"""Networks of several trained seeds are compared image by image."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.paths import EXAMPLES

SCRIPT = EXAMPLES / "shipped_seeds.py"
IMAGES = EXAMPLES / "data" / "fashion-mnist-512.npz"


def test_all_networks_of_all_seeds_are_compared(tmp_path: Path):
    for seed in "01":
        (tmp_path / seed).mkdir()
        for name in ("fashion-spikformer", "fashion-t1"):
            (tmp_path / seed / name).symlink_to(EXAMPLES / "models" / name)
    command = [sys.executable, SCRIPT, tmp_path, "--data", IMAGES, "--limit", "40", "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert [row["network"] for row in rows] == [
        "halting",
        *(f"{name}, {steps} steps" for name in ("same weights", "stage 1") for steps in (4, 3, 2, 1)),
        "trained for one step",
    ]
    visits = {row["network"]: row["visits"] for row in rows}
    assert visits["halting"] < visits["same weights, 4 steps"] == 8
    assert visits["stage 1, 1 steps"] == visits["trained for one step"] == 2
    assert rows[0]["better_by"] == 0 and rows[0]["p_values"] == [1, 1]


def test_intervals_hold_images_and_seeds():
    script = runpy.run_path(str(SCRIPT))
    rng = np.random.default_rng(1)
    right = {"halting": rng.random((3, 4000)) < 0.9, "other": rng.random((3, 4000)) < 0.8}
    _, other = script["compare"](right, {"halting": 3.0, "other": 8.0})
    low, high = other["interval"]
    assert low < other["better_by"] < high and other["better_by"] == pytest.approx(0.1, abs=0.02)
    assert 0.005 < (high - low) / 2 < 0.03 and max(other["p_values"]) < 1e-10
    # Seeds that differ more than images do widen it.
    apart = {"halting": right["halting"], "other": right["other"] & (np.arange(3) > 0)[:, None]}
    low, high = script["compare"](apart, {"halting": 3.0, "other": 8.0})[1]["interval"]
    assert high - low > 0.3


def test_one_seed_is_refused(tmp_path: Path):
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path, "--data", IMAGES], capture_output=True, text=True)
    assert ran.returncode == 2 and "has 0 finished seeds; at least two are needed" in ran.stderr
