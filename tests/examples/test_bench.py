"""Benchmarks as JSON: written with ratios, and compared only where both measured the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.paths import EXAMPLES


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def figure(what: str, value: float, rival: float, quantity: str = "images_per_s") -> dict[str, Any]:
    ratio = value / rival
    spread = {"low": value * 0.9, "high": value * 1.1, "ratio_low": ratio * 0.9, "ratio_high": ratio * 1.1}
    return {"what": what, "quantity": quantity, "value": value, "rival": "torch", "ratio": ratio, **spread}


def document(**figures: float) -> dict[str, Any]:
    return {
        "format": "stas-neuro benchmark",
        "schema_version": 1,
        "commit": "abc",
        "machine": "a machine",
        "load_average": 0.5,
        "versions": {"numpy": "2"},
        "settings": {"images": 8, "dtype": "float32"},
        "figures": [figure(name, value, figures["torch"]) for name, value in figures.items()],
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The second machine is twice as fast, the reference on it three times as fast; lava is gone."""
    paths = tmp_path / "a.json", tmp_path / "b.json"
    paths[0].write_text(json.dumps(document(torch=100, reference=50, lava=10, same=20)))
    paths[1].write_text(json.dumps(document(torch=200, reference=150, same=42)))
    return paths


def test_ratios_are_compared_not_times(files: tuple[Path, Path]) -> None:
    done = script("bench_compare.py", *files)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["reference", "images_per_s", "0.5", "0.75", "1.50", "apart"] in rows
    assert ["same", "images_per_s", "0.2", "0.21", "1.05"] in rows
    assert ["lava", "images_per_s", "0.1", "absent"] in rows
    assert not any(row[:1] == ["torch"] for row in rows)


def test_what_was_measured_otherwise_is_refused(files: tuple[Path, Path]) -> None:
    other = json.loads(files[1].read_text())
    other["settings"] = {"images": 64, "dtype": "float64"}
    files[1].write_text(json.dumps(other))
    done = script("bench_compare.py", *files)
    assert done.returncode == 2
    assert "dtype is float32 and float64; images is 8 and 64; run both with the same settings" in done.stderr


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "stas-neuro benchmark", "schema_version": 2}'])
def test_what_is_no_benchmark_is_refused(text: str, files: tuple[Path, Path]) -> None:
    files[1].write_text(text)
    done = script("bench_compare.py", *files)
    assert done.returncode == 2 and str(files[1]) in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_benchmark_is_written_and_compares_with_itself(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = script("bench.py", "--quick", "--images", "2", "--repeats", "1", "--output", path)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert len(written["commit"].removesuffix("-dirty")) == 40 or written["commit"] == "unknown"
    assert {each["quantity"] for each in written["figures"]} == {
        "images_per_s", "images_per_s_in_turn", "images_per_s_in_stream", "first_batch_s", "one_image_s",
        "peak_memory_bytes", "cpu_s",
    }  # fmt: skip
    assert all(each["ratio_low"] <= each["ratio"] <= each["ratio_high"] for each in written["figures"])
    assert all(each["ratio"] == 1 for each in written["figures"] if each["what"] == each["rival"])
    done = script("bench_compare.py", path, path)
    assert done.returncode == 0 and "reference, integers" in done.stdout
