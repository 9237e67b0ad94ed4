"""The benchmark of published sizes, on a tiny network."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import EXAMPLES

SCRIPT = EXAMPLES / "at_size.py"


def test_exponents_are_those_of_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("at_size", SCRIPT)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "at_size", code)  # dataclasses look their module up
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
    for by in ("layer", "chip"):
        assert stages[f"one image in Lava, by {by}"]["told"] == "equal to the reference"
    assert stages["price"]["told"].count(" J") == 2
    assert all(name in done.stdout for name in stages)


@pytest.mark.slow
def test_spikformer_8_768_goes_from_statistics_to_a_price(tmp_path: Path) -> None:
    path = tmp_path / "at_size.json"
    command = [
        sys.executable,
        str(SCRIPT),
        "spikformer-8-768-imagenet",
        "--images",
        "1",
        "--output",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (stages,) = json.loads(path.read_text())["presets"].values()
    assert max(facts["peak_memory_bytes"] for facts in stages.values()) < 8e9
    for by in ("layer", "chip"):
        assert stages[f"one image in Lava, by {by}"]["told"] == "equal to the reference"
    assert stages["price"]["told"].count(" J") == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qkformer_10_768"])
def test_published_networks_of_others_go_from_their_module_to_a_price(name: str) -> None:
    pytest.importorskip("spikingjelly")
    table = [sys.executable, str(EXAMPLES / "models_table.py"), f"{EXAMPLES / 'zoo.py'}:{name}"]
    options = ["--figures", "--limit-s", "7200", "--price-on", "loihi1"]
    done = subprocess.run([*table, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith(f"| {name} |"))
    cells = row.strip("| ").split(" | ")[1:]
    assert len(cells) == 7 and all(cell.startswith("yes") for cell in cells), done.stdout
    assert all(float(memory) < 8192 for memory in re.findall(r"([\d.]+) MiB", row))
