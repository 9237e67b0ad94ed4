"""Benchmarks as JSON: written with ratios, and compared only where both measured the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fixed_random import pixels_for
from support.ir_random import Recipe, build
from support.paths import EXAMPLES

import stas_neuro
from stas_neuro import quantise
from stas_neuro.ir import FixedConv2d, FixedLinear


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


def test_ratios_are_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import bench_table

    rounds = [{"ours": 2.0, "theirs": 1.0}, {"ours": 30.0, "theirs": 10.0}, {"ours": 4.0, "theirs": 2.0}]
    ours, theirs = bench_table.of_rounds(rounds, {"ours": "theirs", "theirs": "theirs"}, "rate")
    assert (ours["value"], ours["low"], ours["high"]) == (4, 2, 30)
    assert (ours["ratio"], ours["ratio_low"], ours["ratio_high"]) == (2, 2, 3)
    assert theirs["ratio"] == 1 and theirs["rival"] == "theirs"
    called: list[str] = []

    def call(name: str) -> Callable[[], int]:
        def record() -> int:
            called.append(name)
            return 1

        return record

    found = bench_table.in_turn({"a": call("a"), "b": call("b")}, 2)
    assert "".join(called) == "ababab" and len(found) == 2  # the first round warms up


def test_other_programs_that_are_not_installed_are_absent_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import bench_rivals

    def shipped(settings: Any) -> Any:
        return bench_rivals.Result([], {"torch, compiled": "no compiler"})

    monkeypatch.setattr(bench_rivals, "_shipped", shipped)
    monkeypatch.setattr(bench_rivals, "SANAFE", tmp_path / "python")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench_rivals.measure_rivals(bench_rivals.Settings(1, 1)).absent == {
        "torch, compiled": "no compiler",
        "SpikingJelly, multi-step Spikformer": "SpikingJelly is not installed (make zoo)",
        "SANA-FE, smaller network": "SANA-FE is not installed (make oracle)",
        "SANA-FE, larger network": "SANA-FE is not installed (make oracle)",
        "SANA-FE, largest network": "SANA-FE is not installed (make oracle)",
    }


def test_products_are_at_least_the_synaptic_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import bench_rivals

    program = quantise(build(Recipe(norm=False)))
    run = stas_neuro.run(program, pixels_for(program, 2).astype(np.uint8), backend="reference")
    layers = [n.name for n in program.nodes if isinstance(n, FixedConv2d | FixedLinear)]
    rows = [row for row, layer in enumerate(run.activity.layers) if layer.name in layers]
    done = sum(int(run.activity.counts[kind][:, rows].sum()) for kind in ("synops", "macs"))
    most = bench_rivals.products(program, np.ones_like(run.visits))
    assert 0 < done / 2 <= bench_rivals.products(program, run.visits) < most


def test_time_that_follows_tokens_is_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import bench_tokens

    def measured(time: float) -> Any:
        return bench_tokens.Measured("any", 4, 3, 0.2, 0.35, time, time, time, 4.0, 0.5)

    assert measured(0.6).bound == pytest.approx(0.2 + 0.8 * 0.5)
    assert measured(0.59).holds and not measured(0.61).holds
    assert "MISSED" in measured(0.61).told() and "alone 8.00 x torch" in measured(0.61).told()
    assert len(bench_tokens.shipped(3)[1]) == 3


@pytest.mark.slow
def test_a_benchmark_is_written_and_compares_with_itself(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = script("bench.py", "--quick", "--images", "2", "--repeats", "1", "--output", path)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert len(written["commit"].removesuffix("-dirty")) == 40 or written["commit"] == "unknown"
    assert {each["quantity"] for each in written["figures"]} == {
        "images_per_s", "images_per_s_in_turn", "images_per_s_in_stream", "images_per_s_beside_others",
        "products_per_s", "first_batch_s", "one_image_s", "peak_memory_bytes", "cpu_s",
    }  # fmt: skip
    shares = [each["ratio"] for each in written["figures"] if each["quantity"] == "products_per_s"]
    assert shares and all(0 < share < 1.5 for share in shares)
    assert all(each["ratio_low"] <= each["ratio"] <= each["ratio_high"] for each in written["figures"])
    assert all(each["ratio"] == 1 for each in written["figures"] if each["what"] == each["rival"])
    done = script("bench_compare.py", path, path)
    assert done.returncode == 0 and "reference, integers" in done.stdout
