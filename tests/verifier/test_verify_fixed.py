"""The certificate of the integer program: what is compared, what integers change, and headroom."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ir_random import Recipe, build

from stas_neuro import api
from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.data import LabelledImages
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.exporters.lava.saved import load_network, save_network
from stas_neuro.ir import LIF, STATE_LIMIT, FixedLIF, FixedReadout, Graph, Node
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace
from stas_neuro.verifier import Divergence, driver, runs, verify

RECIPE = Recipe(norm=False, halting="raster", height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3)
FLOAT = build(RECIPE)
FIXED = Quantise(bits=3)(FLOAT)
RECORDED = {"record_spikes": True, "record_states": True}


def noise(count: int, labels: bool = False) -> LabelledImages:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (count, *FLOAT.input.shape)).astype(np.uint8)
    return LabelledImages(pixels, rng.integers(0, 3, count) if labels else None, source="noise")


def bundle(quantised: Graph | None = FIXED) -> Bundle:
    return Bundle(FLOAT, Provenance(source="nowhere"), {}, quantised)


def test_integers_may_have_synapses_that_floats_do_without() -> None:
    graph = build(Recipe(norm=False, membrane=True, mixed=True, halting="off", seed=4))
    quantised = Quantise(8)(graph)
    assert len(quantised.nodes) > len(graph.nodes)
    pixels = np.random.default_rng(5).integers(0, 256, (3, *graph.input.shape)).astype(np.uint8)
    result = verify(Bundle(graph, Provenance(source="nowhere"), {}, quantised), LabelledImages(pixels, None))
    result.require()
    assert result.lowering is not None and not any(
        "identity" in name for name in result.lowering.event_layers
    )


def test_both_networks_are_compared_and_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CHUNK", 2)
    images = noise(5, labels=True)
    result = verify(bundle(), images)
    result.require()
    assert [part.arithmetic for part in result.parts] == ["float", "fixed"]
    before, after = api.run(FLOAT, images, record_spikes=True), api.run(FIXED, images, **RECORDED)  # type: ignore[arg-type]
    for part, trace in zip(result.parts, (before, after), strict=True):
        assert part.token_ratio == pytest.approx(trace.token_ratio) and trace.token_ratio < 1
        assert part.accuracy == api.accuracy(trace, images, FLOAT.classes)
        assert part.spikes_fired == {name: spikes.sum() for name, spikes in trace.spikes.items()}
        assert part.visits_skipped == (~trace.visits).sum() and not part.structure
    (lava,) = result.part("fixed").agreements
    assert (lava.run, lava.dtype, lava.baseline) == ("Lava, in-process", "integer", "reference integer")
    assert lava.promised and lava.equal and lava.first is None and lava.logit_delta == 0
    assert lava.spikes_compared == sum(spikes.size for spikes in after.spikes.values())
    assert lava.states_compared == sum(states.size for states in after.states.values())
    assert {layer.layer for layer in lava.layers if layer.quantity == "score"} == {"halt0", "halt1"}

    lowering = result.lowering
    assert lowering is not None and not lowering.promised
    assert [layer.layer for layer in lowering.layers] == [lif.name for lif in FLOAT.of_type(LIF)]
    different = {name: before.spikes[name] != after.spikes[name] for name in before.spikes}
    assert sum(lowering.visits_differing_by_token) > 0  # 3 bits are few
    for layer in lowering.layers:
        axes = tuple(axis for axis in range(different[layer.layer].ndim) if axis != 1)
        assert layer.differing_by_step == tuple(different[layer.layer].sum(axis=axes))
        assert layer.compared == different[layer.layer].size
    visits = before.visits != after.visits
    assert lowering.visits_differing_by_token == tuple(visits.sum(axis=(0, 1, 2)))
    assert lowering.tokens_differing == visits.any(axis=(1, 2)).sum()
    assert lowering.tokens_compared == len(images) * FLOAT.tokens
    assert lowering.logit_delta == np.abs(before.logits - after.logits).max()
    assert lowering.top1_changes == (before.predictions != after.predictions).sum()
    first = lowering.first
    assert first is not None and first.quantity == "spike"
    places = np.argwhere(different[first.layer])
    assert (first.image, first.step - 1, *first.place.values()) == tuple(places[0])
    earlier = [name for name in different if FLOAT.node(name).phase == FLOAT.node(first.layer).phase]
    assert not any(different[name][: first.image].any() for name in earlier)


def test_a_bundle_without_integers_is_certified_as_a_float_network() -> None:
    result = verify(bundle(None), noise(1))
    assert result.passed and [part.arithmetic for part in result.parts] == ["float"]
    assert result.lowering is None and result.saturation is None
    document = result.to_json()
    assert document["lowering"] is None and document["saturation"] is None


def test_one_arithmetic_can_be_asked_for() -> None:
    for arithmetic in ("float", "fixed"):
        result = verify(bundle(), noise(1), arithmetic=arithmetic)
        assert result.passed and [part.arithmetic for part in result.parts] == [arithmetic]
        assert result.lowering is None and ("torch" in result.left_out) == (arithmetic == "float")
    assert [part.arithmetic for part in verify(FIXED, noise(1)).parts] == ["fixed"]
    for network, arithmetic, problem in (
        (bundle(None), "fixed", "the bundle has no integer program; compile it with --bits"),
        (FIXED, "float", "no float network: a quantised graph computes in fixed arithmetic"),
        (FLOAT, "fixed", "no fixed network: a folded graph computes in float arithmetic"),
        (FLOAT, "double", "there is no arithmetic 'double'; use one of all, float, fixed"),
    ):
        with pytest.raises(InputError, match=problem):
            verify(network, noise(1), arithmetic=arithmetic)


def test_an_integer_program_that_met_nothing_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stas_neuro.exporters.lava.lava_api", None)
    result = verify(FIXED, noise(1))
    assert not result.passed and not result.part("fixed").agreements
    with pytest.raises(CheckFailed, match=r"nothing could be compared with reference integer.*install Lava"):
        result.require()


# Divergences


Change = Callable[[Trace], dict[str, Any]]


def moved(name: str, place: tuple[int, ...]) -> Change:
    def change(trace: Trace) -> dict[str, Any]:
        states = {key: array.copy() for key, array in trace.states.items()}
        states[name][place] += 1
        return {"states": states}

    return change


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            moved("blocks.1.q_lif", (1, 2, 3, 1)),
            Divergence(
                image=1,
                layer="blocks.1.q_lif",
                quantity="membrane",
                step=3,
                place={"token": 3, "channel": 1},
            ),
        ),
        (
            moved("halt1", (0, 1, 2)),
            Divergence(image=0, layer="halt1", quantity="score", step=2, place={"token": 2}),
        ),
        (
            lambda trace: {"logits": np.nextafter(trace.logits, 1e9)},
            Divergence(image=0, layer="output", quantity="logit", step=1, place={"class": 0}),
        ),
    ],
    ids=["membrane", "score", "logit"],
)
def test_a_single_integer_that_differs_fails(
    change: Change, wanted: Divergence, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.run_lava

    def changed(*arguments: Any, **options: Any) -> Trace:
        trace = run(*arguments, **options)
        return replace(trace, **change(trace))

    monkeypatch.setattr(runs, "run_lava", changed)
    result = verify(FIXED, noise(2))
    (failed,) = result.part("fixed").failures
    assert failed.first == wanted and failed.spikes_differing == 0
    assert failed.states_differing == (wanted.quantity != "logit")
    with pytest.raises(CheckFailed) as raised:
        result.require()
    assert f"first at {wanted}" in str(raised.value) and wanted.layer in str(raised.value)


def test_of_a_stem_that_merges_its_steps_what_is_before_the_merger_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = Quantise()(build(replace(RECIPE, stem="max")))
    before, behind = graph.node("stem.lif0"), graph.node("stem.lif1")
    assert (str(before.phase), str(behind.phase)) == ("stem", "once")
    run = runs.run_lava

    def changed(*arguments: Any, **options: Any) -> Trace:
        trace = run(*arguments, **options)
        spikes = {key: array.copy() for key, array in trace.spikes.items()}
        spikes["stem.lif0"][0, 2, 0, 0, 0] ^= 1
        spikes["stem.lif1"][0, 0, 0, 0, 0] ^= 1
        return replace(trace, spikes=spikes)

    monkeypatch.setattr(runs, "run_lava", changed)
    (failed,) = verify(graph, noise(1)).part("fixed").failures
    assert failed.first is not None and (failed.first.layer, failed.first.step) == ("stem.lif0", 3)


# A network from elsewhere


def test_an_exported_network_can_be_certified(tmp_path: Path) -> None:
    images = noise(2)
    for graph, arithmetic in ((FLOAT, "float"), (FIXED, "fixed")):
        (tmp_path / arithmetic).mkdir()
        save_network(graph, tmp_path / arithmetic)
        exported = load_network(tmp_path / arithmetic)
        assert verify(bundle(), images, lava_network=exported).passed
        tensors = dict(exported.tensors)
        tensors["head/bias"] = np.zeros_like(tensors["head/bias"])
        failed = verify(bundle(), images, lava_network=replace(exported, tensors=tensors))
        assert [part.arithmetic for part in failed.parts if part.structure or part.failures] == [arithmetic]
        with pytest.raises(
            CheckFailed, match=rf"Lava's {arithmetic} network differs from the graph: head: bias"
        ):
            failed.require()
        assert failed.to_json()["parts"][arithmetic == "fixed"]["structure"][0]["layer"] == "head"


def test_a_network_that_is_another_is_refused() -> None:
    with pytest.raises(InputError, match="Lava's network computes in float arithmetic, which is not"):
        verify(FIXED, noise(1), lava_network=FLOAT)
    other = Quantise()(build(replace(RECIPE, blocks=1)))
    with pytest.raises(InputError, match=r"do not have the same nodes: only one has blocks\.1\.add0"):
        verify(FIXED, noise(1), lava_network=other)


# Headroom


def membranes(graph: Graph, images: LabelledImages) -> dict[str, int]:
    """The largest membrane of each layer before its reset, from what neurons kept and what reached them."""
    reached: dict[str, list[np.ndarray]] = {}

    def observe(node: Node, inputs: Any) -> None:
        if isinstance(node, LIF):
            reached.setdefault(node.name, []).append(inputs["x"].copy())

    trace = run_reference(
        graph, api.preprocess(graph, images), chunk=len(images), observe=observe, **RECORDED
    )  # fmt: skip
    largest = {}
    for name, inputs in reached.items():
        lif = graph.node(name)
        assert isinstance(lif, FixedLIF)
        kept = np.zeros(inputs[0].shape)
        before = []
        for step, x in enumerate(inputs):
            before.append(np.trunc(kept * (4096 - lif.dv) / 4096) + x)
            kept = trace.states[name][:, step].astype(np.float64)
        largest[name] = int(np.abs(before).max())
    return largest


@pytest.mark.parametrize("stem", ["one-step", "late-max"])
def test_headroom_is_what_was_seen_beside_what_is_proved(stem: str) -> None:
    # More images than the reference computes at once.
    graph, images = Quantise()(build(replace(RECIPE, stem=stem))), noise(19)
    result = verify(graph, images)
    assert result.passed and result.saturation is not None
    assert {layer.layer: layer.largest for layer in result.saturation.layers} == membranes(graph, images)
    for layer in result.saturation.layers:
        assert 0 < layer.largest <= layer.bound <= layer.limit == STATE_LIMIT
        assert layer.bits == pytest.approx(math.log2(STATE_LIMIT) - math.log2(layer.bound))
        assert layer.bits_seen >= layer.bits >= 0
    assert result.saturation.readout_values > 0 == result.saturation.readout_clipped


def test_clipping_of_the_readout_is_counted() -> None:
    readout = FIXED.readout
    assert isinstance(readout, FixedReadout)
    tight = replace(readout, z_limit=1, z_shift=0)
    graph = replace(FIXED, nodes=tuple(tight if node is readout else node for node in FIXED.nodes))
    images, values = noise(3), []

    def observe(node: Node, inputs: Any) -> None:
        if isinstance(node, FixedReadout):
            values.extend(value.copy() for port, value in inputs.items() if port.startswith("z"))

    run_reference(graph, api.preprocess(graph, images), observe=observe)
    result = verify(graph, images)
    assert result.passed and result.saturation is not None
    assert result.saturation.readout_values == sum(value.size for value in values)
    assert result.saturation.readout_clipped == sum(int((np.abs(value) > 1).sum()) for value in values) > 0


@pytest.mark.slow
def test_lavas_own_runtime_computes_the_same_integers() -> None:
    result = verify(FIXED, noise(2), multiprocess=True)
    assert [run.run for run in result.part("fixed").agreements] == ["Lava, in-process", "Lava, multiprocess"]
    assert result.passed
