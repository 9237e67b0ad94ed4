"""One compiler: Python, the command and the demo give the same bundle, and a bundle can be compiled anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli_support import fine, make_checkpoint

import stas_neuro
from stas_neuro.bundle import load_bundle, save_bundle
from stas_neuro.compiler import CompileOptions, compile, replay
from stas_neuro.errors import InputError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compiler")
    make_checkpoint(directory / "model")
    shape = stas_neuro.fold(directory / "model").input.shape
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), np.uint8)
    np.savez(directory / "images.npz", images=images, labels=np.arange(12) % 2)
    return directory


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "other halting": {"accumulate": "rectangular", "epsilon": 0.2, "readout": "rate"},
    "chosen image halting": {"halting": "image", "calibrate": "images.npz", "max_drop": 0.2, "bits": 8},
    "given halting": {"halting": "time", "alpha": 0.5, "beta": -1.0, "readout": "last-state"},
    "late": {"schedule": "pipelined-stale", "late": 2},
    "integers": {"bits": 6, "calibrate": "images.npz", "profile": "loihi2", "input_encoding": "bias"},
    "stock": {"accumulate": "off", "bits": 8, "backend": "lava-stock"},
    "on a number of cores": {
        "placement": "token-major", "cores": 12, "contexts": 2, "minimise": "latency", "mode": "stream",
    },
    "late integers on cores": {
        "bits": 8, "schedule": "pipelined-stale", "placement": "halting-aware", "groups": 2,
        "profile_run": "images.npz", "limit": 8, "minimise": "neuron-updates",
    },
}  # fmt: skip


def options_of(home: Path, case: str) -> dict[str, Any]:
    return {
        name: str(home / value) if value == "images.npz" else value for name, value in CASES[case].items()
    }


@pytest.mark.parametrize("case", CASES)
def test_python_and_the_command_make_the_same_bundle(home: Path, tmp_path: Path, case: str) -> None:
    words = options_of(home, case)
    ours = compile(home / "model", **words)
    arguments = [part for name, value in words.items() for part in (f"--{name.replace('_', '-')}", value)]
    fine("compile", home / "model", *arguments, "-o", tmp_path / "b.stas")
    theirs = load_bundle(tmp_path / "b.stas")
    assert theirs.graph == ours.graph
    assert theirs.quantised == ours.quantised
    assert theirs.mapping == ours.mapping
    assert dict(theirs.provenance.options) == dict(ours.provenance.options)
    assert list(map(dict, theirs.provenance.passes)) == list(map(dict, ours.provenance.passes))


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_is_compiled_anew_from_what_it_records(home: Path, tmp_path: Path, case: str) -> None:
    made = compile(home / "model", **options_of(home, case))
    save_bundle(
        made.graph, tmp_path / "b.stas", made.provenance, quantised=made.quantised, mapping=made.mapping
    )
    again = replay(load_bundle(tmp_path / "b.stas"))
    assert (again.graph, again.quantised, again.mapping) == (made.graph, made.quantised, made.mapping)


def test_passes_are_recorded_with_their_arguments(home: Path) -> None:
    made = compile(home / "model", **options_of(home, "late integers on cores"))
    passes = {record["pass"]: record for record in made.provenance.passes}
    assert list(passes) == ["FoldBatchNorm", "DelayDecisions", "Quantise"]
    assert passes["DelayDecisions"]["late"] == made.provenance.options["late"]
    assert passes["Quantise"]["bits"] == 8


def test_a_model_in_memory_is_compiled_and_cannot_be_replayed(home: Path) -> None:
    made = compile(stas_neuro.load_model(home / "model"), bits=8)
    assert made.quantised == compile(home / "model", bits=8).quantised
    with pytest.raises(InputError, match="a model in memory"):
        replay(made)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"late": 2}, r"late \(2\) requires the schedule pipelined-stale"),
        ({"schedule": "pipelined", "late": 2}, "requires the schedule pipelined-stale"),
        ({"groups": 3}, "groups requires a placement"),
        (
            {"placement": "token-major", "minimise": "core-steps"},
            "core-steps requires halting-aware",
        ),
        ({"placement": "token-major", "limit": 3}, "limit requires a profile-run"),
        ({"backend": "other"}, "there is no backend 'other'"),
        ({"beta": 1.0}, "beta is of halting that is added; give halting too"),
        ({"max_drop": 0.1}, "max-drop is of halting that is added"),
        ({"halting": "often"}, "there is no halting 'often'; use one of raster"),
        ({"halting": "time", "accumulate": "off"}, "replaces the trained halting, and accumulate is off"),
        ({"halting": "time"}, "the parameters of halting time are chosen on images, and none are given"),
        ({"halting": "time", "beta": 0.0, "max_drop": 0.1}, "max-drop chooses the parameters of halting"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(words: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompileOptions(**words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"calibrate": "images.npz"}, "calibrate affects the integer program, and no bits are given"),
        ({"profile": "loihi1"}, "profile affects the integer program"),
        ({"backend": "lava-stock"}, "backend lava-stock requires an integer program"),
        ({"bits": 8, "profile": "truenorth"}, "truenorth has no cores for the integer program"),
    ],
)
def test_options_of_integers_need_bits(home: Path, words: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile(home / "model", **words)
