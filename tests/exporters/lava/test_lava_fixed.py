"""Quantised graphs on Lava: the same integers as the reference, in both runtimes and in a package."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from support.ir_random import HALTING, READOUTS, STEMS, Recipe, build, recipes
from support.paths import EXAMPLES

from stas_neuro.bundle import Provenance, save_bundle
from stas_neuro.cli import main as cli
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.exporters.lava.standalone import main
from stas_neuro.ir import FixedLinear, FixedOutput, FixedTokenMean, Graph, IRError, Phase
from stas_neuro.passes.quantise import Exponents, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

Array = np.ndarray
RECORDED = {"record_spikes": True, "record_states": True}


def pixels(graph: Graph, count: int, seed: int = 0) -> Array:
    frames = () if graph.input.phase == Phase.ONCE else (graph.time_steps,)
    return np.random.default_rng(seed).integers(0, 256, (count, *frames, *graph.input.shape))


def assert_equal(ours: Trace, theirs: Trace) -> None:
    """Every number of both, to the last bit."""
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    for what in ("spikes", "states"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        assert mine.keys() == other.keys()
        for name in other:
            assert mine[name].dtype == other[name].dtype
            np.testing.assert_array_equal(mine[name], other[name], err_msg=f"{what} of {name}")
    assert ours.activity == theirs.activity


def check(graph: Graph, count: int = 3, seed: int = 0) -> Trace:
    images = pixels(graph, count, seed)
    trace = run_lava(graph, images, **RECORDED)
    assert_equal(trace, run_reference(graph, images, **RECORDED))
    return trace


@pytest.mark.parametrize(("halting", "readout"), list(product(HALTING, READOUTS)))
def test_lava_is_the_integer_reference_in_every_halting_mode_and_readout(halting: str, readout: str) -> None:
    # A network in which tokens halt apart in every mode and every neuron layer fires.
    recipe = Recipe(
        norm=False, halting=halting, readout=readout, blocks=3, height=6, seed=1,
        alpha=1.0, beta=-3.0, epsilon=0.3, margin=4.0,
    )  # fmt: skip
    trace = check(Quantise()(build(recipe)))
    assert (len(np.unique(trace.visits.sum((1, 2)))) > 1) == (halting != "off")
    assert all(spikes.any() for spikes in trace.spikes.values())
    assert (trace.activity.total("cpu_operations") > 0) == (
        readout == "rate" or (readout == "mean-field" and halting in ("rectangular", "image"))
    )


@pytest.mark.parametrize(("stem", "events"), list(product(STEMS, (False, True))))
def test_lava_is_the_integer_reference_with_every_stem(stem: str, events: bool) -> None:
    graph = build(Recipe(norm=False, stem=stem, events=events, sdsa=events, membrane=not events))
    check(Quantise(encoding="graded" if events else "bias")(graph))


passes = st.builds(
    Quantise,
    bits=st.integers(2, 9),
    exponents=st.sampled_from(("layer", "channel")),
    encoding=st.sampled_from(("graded", "bias")),
)


@settings(max_examples=40)
@given(recipe=recipes(norm=False), lowering=passes)
def test_lava_is_the_integer_reference_on_random_models(recipe: Recipe, lowering: Quantise) -> None:
    check(lowering(build(recipe)), count=2, seed=recipe.seed)


@settings(max_examples=30)
@given(recipe=recipes(norm=False, membrane=True, mixed=True), lowering=passes)
def test_lava_is_the_integer_reference_where_layers_read_currents(recipe: Recipe, lowering: Quantise) -> None:
    check(lowering(build(recipe)), count=2, seed=recipe.seed)


@settings(max_examples=10)
@given(
    recipe=recipes(norm=False, halting="off", head="mean", pool=False, height=12, width=17),
    bits=st.integers(4, 9),
    exponents=st.sampled_from(("layer", "channel")),
)
def test_lava_is_the_integer_reference_where_means_over_tokens_round(
    recipe: Recipe, bits: int, exponents: Exponents
) -> None:
    """So many tokens that a state of 19 to 21 bits does not hold their sum."""
    for state_bits in (19, 20, 21):
        try:
            graph = Quantise(bits, exponents, state_bits)(build(recipe))
        except IRError:
            continue  # another layer needs more
        check(graph, count=1, seed=recipe.seed)
        if any(mean.x_shift for mean in graph.of_type(FixedTokenMean)):
            return
    reject()


@pytest.mark.slow
@settings(max_examples=1000, derandomize=False)
@given(recipe=recipes(norm=False), lowering=passes)
def test_lava_is_the_integer_reference_on_many_random_models(recipe: Recipe, lowering: Quantise) -> None:
    check(lowering(build(recipe)), count=2, seed=recipe.seed)


MODELS = [
    pytest.param("fashion-spikformer"),
    *(pytest.param(m, marks=pytest.mark.slow) for m in ("fashion-spikingformer", "fashion-t1")),
]


@pytest.mark.parametrize("model", MODELS)
def test_lava_is_the_integer_reference_on_a_shipped_model(model: str) -> None:
    pytest.importorskip("torch")
    from stas_neuro.compiler import fold

    graph = Quantise(bits=8)(fold(EXAMPLES / "models" / model))
    images = np.load(EXAMPLES / "data" / "fashion-mnist-512.npz")["images"][:16]
    images = images.reshape(16, *graph.input.shape)
    trace = run_lava(graph, images, **RECORDED)
    assert_equal(trace, run_reference(graph, images.astype(np.int64), **RECORDED))
    assert sum(int(spikes.sum()) for spikes in trace.spikes.values()) > 1000


def test_both_runtimes_give_the_same() -> None:
    graph = Quantise()(build(Recipe(norm=False, stem="max", blocks=1)))
    images = pixels(graph, 3)
    assert_equal(
        run_lava(graph, images, runtime="multiprocess", **RECORDED), run_lava(graph, images, **RECORDED)
    )


def test_states_are_recorded_on_request_and_of_integers_only() -> None:
    folded = build(Recipe(norm=False))
    graph = Quantise()(folded)
    assert not run_lava(graph, pixels(graph, 1)).states
    with pytest.raises(InputError, match="the graph is folded, it has no integer states"):
        run_lava(folded, np.zeros((1, 2, 4, 6)), record_states=True)


@pytest.mark.parametrize("pixel", [-1, 256, 0.5])
def test_images_that_are_no_pixels_are_refused(pixel: float) -> None:
    graph = Quantise()(build(Recipe(norm=False)))
    with pytest.raises(LavaRunError, match=r"images \(.*\) are not integers in 0\.\.255"):
        run_lava(graph, np.full((1, 2, 4, 6), pixel))


def test_another_network_can_be_run_for_a_graph() -> None:
    graph = Quantise()(build(Recipe(norm=False)))
    images = pixels(graph, 2)
    own = run_lava(graph, images, **RECORDED)
    tensors = dict(graph.tensors)
    tensors["head/bias"] = tensors["head/bias"] + np.int16([1, 0, 0])
    changed = run_lava(graph, images, network=replace(graph, tensors=tensors), **RECORDED)
    head, output = graph.node("head"), graph.output
    assert isinstance(head, FixedLinear) and isinstance(output, FixedOutput)
    step = 2**head.bias_exp * output.unit
    np.testing.assert_allclose(changed.logits - own.logits, [[step, 0.0, 0.0]] * 2)


# The package


def test_a_package_computes_in_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folded = build(Recipe(norm=False, stem="learned", blocks=1))
    graph = Quantise()(folded)
    origin = Provenance(source="", source_sha256={}, options={})
    save_bundle(folded, tmp_path / "bundle", origin, quantised=graph)
    command = [
        "convert",
        tmp_path / "bundle",
        "--to",
        "lava",
        "--arithmetic",
        "fixed",
        "-o",
        tmp_path / "network",
    ]
    assert cli([str(part) for part in command]) == 0
    capsys.readouterr()
    raw = pixels(graph, 5).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=raw)
    command = [
        sys.executable,
        tmp_path / "network" / "run.py",
        tmp_path / "images.npz",
        "--out",
        tmp_path / "out.npz",
    ]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    trace, found = run_reference(graph, raw.astype(np.int64)), np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found["logits"], trace.logits)
    np.testing.assert_array_equal(found["visits"], trace.visits)
    readme = (tmp_path / "network" / "README.md").read_text()
    assert "holds `images`, uint8, of shape (n, 2, 4, 6)" in readme and "computes in integers" in readme
    np.savez(tmp_path / "floats.npz", images=raw / 255.0)
    assert main(tmp_path / "network", [str(tmp_path / "floats.npz")]) == 2
    assert "pixels are float64, the network computes in integers; give uint8" in capsys.readouterr().err
