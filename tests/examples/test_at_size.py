"""The benchmark of published sizes, on a tiny network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import EXAMPLES

SCRIPT = EXAMPLES / "at_size.py"


def test_exponents_are_those_of_powers() -> None:
    spec = importlib.util.spec_from_file_location("at_size", SCRIPT)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    assert code.exponent([2, 4, 8], [3.0, 12.0, 48.0]) == pytest.approx(2)


@pytest.mark.slow
def test_every_stage_is_measured_and_lava_equals_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "at_size.json"
    command = [sys.executable, str(SCRIPT), "tiny", "--images", "2", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (stages,) = json.loads(path.read_text())["presets"].values()
    assert all(facts["cpu_s"] > 0 and facts["peak_memory_bytes"] > 0 for facts in stages.values())
    assert stages["one image in Lava"]["told"] == "equal to the reference"
    assert all(name in done.stdout for name in stages)
