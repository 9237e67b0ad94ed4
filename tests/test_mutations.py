"""Faults put into the Lava program alone: the certificate fails and names the layer, whatever the fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, recipes

from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.compiler import fold
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import CheckFailed
from stas_neuro.exporters.lava.processes.neurons import PyLIFModelFixed
from stas_neuro.ir import (
    LIF,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedLIF,
    FixedSpikeMatMul,
    Graph,
    HaltAccumulate,
    IRError,
    MaskedColumnSum,
    Node,
    Output,
    Phase,
    SpikeMatMul,
    SynapticCurrent,
)
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.verifier import Verification, driver, verify

Array = np.ndarray
Fault = Callable[[Graph, np.random.Generator], tuple[Graph, str] | None]
"""Gives the graph with one fault and the node that has it; None where it has no place for one."""


def choice(rng: np.random.Generator, items: Any) -> Any:
    return items[rng.integers(len(items))] if len(items) else None


def with_attributes(graph: Graph, node: Node | str, **changes: Any) -> tuple[Graph, str]:
    name = node if isinstance(node, str) else node.name
    nodes = (replace(each, **changes) if each.name == name else each for each in graph.nodes)
    return replace(graph, nodes=tuple(nodes)), name


def with_tensor(graph: Graph, key: str, array: Array) -> tuple[Graph, str] | None:
    if np.array_equal(array, graph.tensors[key]):
        return None
    return replace(graph, tensors={**graph.tensors, key: array}), key.rpartition("/")[0]


def with_entry(
    graph: Graph, key: str, place: tuple[int, ...], change: Callable[[int], int]
) -> tuple[Graph, str] | None:
    array = graph.tensors[key].copy()
    array[place] = change(int(array[place]))
    return with_tensor(graph, key, array)


def one_entry(graph: Graph, param: str, rng: np.random.Generator) -> tuple[str, tuple[int, ...]] | None:
    """A random entry of that parameter of a random node."""
    key = choice(rng, [key for key in graph.tensors if key.endswith(f"/{param}")])
    return key and (key, tuple(int(rng.integers(size)) for size in graph.tensors[key].shape))


def flip_a_weight_bit(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    key, place = one_entry(graph, "weight", rng)  # type: ignore[misc]
    bits = graph.node(key.rpartition("/")[0]).weight_bits  # type: ignore[attr-defined]
    bit = int(rng.integers(9 - bits, 8)) if bits > 1 else 8  # those of a mantissa, below its sign
    return with_entry(graph, key, place, lambda weight: weight ^ (1 << bit))


def shift_an_exponent(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    key, place = one_entry(graph, "weight_exp", rng)  # type: ignore[misc]
    return with_entry(graph, key, place, lambda exponent: exponent + 1 if exponent < 0 else exponent - 1)


def leak_otherwise(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str]:
    neuron = choice(rng, graph.of_type(FixedLIF))
    return with_attributes(graph, neuron, dv=neuron.dv - 1 if neuron.dv else 1)


def drop_a_bias(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    key, place = one_entry(graph, "bias", rng)  # type: ignore[misc]
    return with_entry(graph, key, place, lambda bias: 0)


def transpose_a_kernel(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    square = [
        key for key, array in graph.tensors.items()
        if key.endswith("/weight") and array.shape[-1] == array.shape[-2] > 1
    ]  # fmt: skip
    key = choice(rng, square)
    return key and with_tensor(graph, key, graph.tensors[key].swapaxes(-1, -2).copy())


def change_a_table_entry(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    entry = one_entry(graph, "table", rng)
    return entry and with_entry(graph, *entry, lambda score: score + 1 if score == 0 else score - 1)


def move_a_halting_limit(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    node = choice(rng, graph.of_type(FixedHaltAccumulate))
    return node and with_attributes(graph, node, limit=node.limit - 1)


def cross_two_edges(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str] | None:
    """Keys and another input of a product change places."""
    product = choice(rng, graph.of_type(SpikeMatMul) + graph.of_type(MaskedColumnSum))
    if product is None:
        return None
    crossed = {"k": "q", "q": "k"} if isinstance(product, SpikeMatMul) else {"k": "v", "v": "k"}
    edges = tuple(
        replace(edge, dst_port=crossed.get(edge.dst_port, edge.dst_port))
        if edge.dst == product.name
        else edge
        for edge in graph.edges
    )
    return replace(graph, edges=edges), product.name


def move_a_threshold(graph: Graph, rng: np.random.Generator) -> tuple[Graph, str]:
    neuron = choice(rng, graph.of_type(FixedLIF))
    return with_attributes(graph, neuron, vth=neuron.vth + int(rng.choice([-1, 1])))


FAULTS: tuple[Fault, ...] = (
    flip_a_weight_bit,
    shift_an_exponent,
    leak_otherwise,
    drop_a_bias,
    transpose_a_kernel,
    change_a_table_entry,
    move_a_halting_limit,
    cross_two_edges,
    move_a_threshold,
)


def pixels(graph: Graph, count: int, seed: int) -> LabelledImages:
    frames = () if graph.input.phase == Phase.ONCE else (graph.time_steps,)
    shape = (count, *frames, *graph.input.shape)
    noise = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return LabelledImages(noise, None, source="noise")


def seen_at(graph: Graph, layer: str) -> set[str]:
    """The nodes nearest behind a layer, or it itself, of which a trace records what they hold."""
    seen: set[str] = set()
    to_visit = [layer]
    visited: set[str] = set()
    while to_visit:
        name = to_visit.pop()
        node = graph.node(name)
        visited.add(name)
        if isinstance(node, LIF | SynapticCurrent | HaltAccumulate | Output):
            seen.add(name)
        # A current is recorded before its bias is added: a fault of the bias is seen only behind it.
        if name not in seen or (name == layer and isinstance(node, SynapticCurrent)):
            to_visit += [edge.dst for edge in graph.consumers(node) if edge.dst not in visited]
    return seen


def check(graph: Graph, network: Graph, layer: str, images: LabelledImages) -> Verification:
    """Certify a network that is not the graph's, and check that it fails for the right reason."""
    result = verify(graph, images, lava_network=network)
    (part,) = result.parts
    assert not result.passed
    assert {difference.layer for difference in part.structure} == {layer}
    with pytest.raises(CheckFailed, match=f"Lava's fixed network .* the graph.*: {layer}: "):
        result.require()
    for agreement in part.failures:
        assert agreement.first is None or agreement.first.layer in seen_at(graph, layer)
        if agreement.first is None:  # only counts of events differ
            assert agreement.event_layers and agreement.logit_delta == agreement.states_differing == 0
    return result


passes = st.builds(
    Quantise,
    bits=st.integers(2, 9),
    exponents=st.sampled_from(("layer", "channel")),
    encoding=st.sampled_from(("graded", "bias")),
)


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=6)
@given(recipe=recipes(norm=False), lowering=passes, seed=st.integers(0, 2**16))
def test_a_fault_in_a_random_model_is_named(
    fault: Fault, recipe: Recipe, lowering: Quantise, seed: int
) -> None:
    try:
        graph = lowering(build(recipe))
        found = fault(graph, np.random.default_rng(seed))
    except IRError:  # not every network fits into so few bits, nor every fault into a graph
        reject()
    assume(found is not None)
    assert found is not None
    images = pixels(graph, 2, seed)
    check(graph, *found, images)
    assert verify(graph, images).passed  # without the fault


RECIPE = Recipe(
    norm=False, halting="raster", blocks=2, height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3
)  # fmt: skip


def meeting_its_threshold(graph: Graph, name: str) -> Graph:
    """The graph with a threshold that the product of a spike matrix meets exactly in its first step."""
    node, product = graph.node(name), graph.node(graph.inputs(graph.node(name))["x"].src)
    assert isinstance(node, FixedLIF) and isinstance(product, FixedSpikeMatMul)
    changed = replace(node, vth=1 << product.exponent)
    return replace(graph, nodes=tuple(changed if each is node else each for each in graph.nodes))


def lif_of(graph: Graph, name: str) -> FixedLIF:
    node = graph.node(name)
    assert isinstance(node, FixedLIF)
    return node


def score_of(graph: Graph) -> FixedHaltingScore:
    return next(score for score in graph.of_type(FixedHaltingScore) if score.name == "score1")


GRAPH = meeting_its_threshold(Quantise()(build(RECIPE)), "blocks.0.attn_lif")
FAULTY: Mapping[str, tuple[Callable[[Graph], tuple[Graph, str] | None], str]] = {
    "a weight bit": (
        lambda graph: with_entry(graph, "blocks.0.fc1/weight", (1, 2), lambda weight: weight ^ 64),
        "blocks.0.fc2_lif",
    ),
    "an exponent": (
        lambda graph: with_entry(graph, "stem.conv1/weight_exp", (2,), lambda exponent: exponent - 1),
        "stem.lif1",
    ),
    "a bias": (
        lambda graph: with_entry(graph, "blocks.1.proj/bias", (3,), lambda bias: 0),
        "blocks.1.proj_lif",
    ),
    "a kernel": (
        lambda graph: with_tensor(
            graph, "stem.conv0/weight", graph.tensors["stem.conv0/weight"].swapaxes(2, 3).copy()
        ),
        "stem.lif0",
    ),
    "a table": (
        # The entry of a token whose first channel is 0.
        lambda graph: with_entry(graph, "score1/table", (-score_of(graph).low,), lambda score: score + 1),
        "halt1",
    ),
    "a limit": (
        lambda graph: with_attributes(graph, "halt0", limit=1),
        "halt0",
    ),
    "two edges": (
        lambda graph: cross_two_edges(graph, np.random.default_rng(0)),
        "blocks.1.attn_lif",
    ),
    "a threshold": (
        lambda graph: with_attributes(
            graph, "blocks.0.attn_lif", vth=lif_of(graph, "blocks.0.attn_lif").vth - 1
        ),
        "blocks.0.attn_lif",
    ),
    "logits": (
        lambda graph: with_entry(graph, "head/bias", (1,), lambda bias: bias + 1),
        "output",
    ),
}
"""Faults that show in what neurons do, and where they first show."""


@pytest.mark.parametrize("what", FAULTY)
def test_a_fault_that_shows_is_placed_by_what_neurons_do_alone(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it, shows_at = FAULTY[what]
    broken = break_it(GRAPH)
    assert broken is not None
    network, layer = broken
    assert shows_at in seen_at(GRAPH, layer)
    images = pixels(GRAPH, 3, 0)
    (failed,) = check(GRAPH, network, layer, images).part("fixed").failures
    monkeypatch.setattr(driver, "differences", lambda graph, network: [])
    assert verify(GRAPH, images).passed
    blind = verify(GRAPH, images, lava_network=network)
    assert blind.part("fixed").failures == (failed,) and not blind.part("fixed").structure
    assert failed.first is not None and failed.first.layer == shows_at
    with pytest.raises(CheckFailed, match=rf"first at image 0, layer {shows_at}, step \d"):
        blind.require()


def test_a_fault_of_a_process_is_placed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = "blocks.0.attn_lif"
    own = PyLIFModelFixed._comparison
    monkeypatch.setattr(
        PyLIFModelFixed,
        "_comparison",
        lambda model: np.greater_equal if model.name == faulty else own(model),
    )
    result = verify(GRAPH, pixels(GRAPH, 3, 0))
    (failed,) = result.part("fixed").failures
    assert failed.first is not None and failed.first.layer == faulty
    assert not result.part("fixed").structure


def test_a_fault_that_no_neuron_shows_is_named_all_the_same() -> None:
    images = pixels(GRAPH, 3, 0)
    spikes = run_reference(GRAPH, images.images.astype(np.int64), record_spikes=True).spikes
    # A channel that is silent, and the weight of the next layer that would have come of it.
    silent = np.flatnonzero(~spikes["blocks.1.fc2_lif"].any(axis=(0, 1, 2)))
    faults = [
        with_entry(GRAPH, "blocks.1.fc2/weight", (0, int(silent[0])), lambda weight: weight ^ 64),
        with_attributes(GRAPH, "stem.lif0", fire=">"),
        with_entry(GRAPH, "score0/table", (-1,), lambda score: score - 1),
    ]
    for fault in faults:
        assert fault is not None
        (agreement,) = check(GRAPH, *fault, images).part("fixed").agreements
        assert agreement.equal and agreement.first is None


SHIPPED: Mapping[str, tuple[Callable[[Graph], tuple[Graph, str] | None], str]] = {
    "a weight bit": (
        lambda graph: with_entry(graph, "blocks.1.fc1/weight", (7, 11), lambda weight: weight ^ 2),
        "blocks.1.fc1_lif",
    ),
    "an exponent": (
        lambda graph: with_entry(graph, "blocks.0.v/weight_exp", (5,), lambda exponent: exponent + 1),
        "blocks.0.v_lif",
    ),
    "a bias": (
        lambda graph: with_entry(graph, "stem.conv2/bias", (3,), lambda bias: 0),
        "stem.lif2",
    ),
    "a kernel": (
        lambda graph: with_tensor(
            graph, "stem.conv1/weight", graph.tensors["stem.conv1/weight"].swapaxes(2, 3).copy()
        ),
        "stem.lif1",
    ),
}


@pytest.fixture(scope="module")
def shipped_graph() -> Graph:
    pytest.importorskip("torch")
    return Quantise(bits=8)(fold(asset(f"models/{HALTING_MODEL}")))


def test_the_shipped_model_passes_without_a_fault(shipped_graph: Graph) -> None:
    result = verify(shipped_graph, load_data(str(asset(IMAGES))), limit=2)
    assert result.passed and result.part("fixed").visits_skipped


@pytest.mark.parametrize("what", SHIPPED)
def test_a_fault_in_the_shipped_model_is_named(what: str, shipped_graph: Graph) -> None:
    break_it, shows_at = SHIPPED[what]
    broken = break_it(shipped_graph)
    assert broken is not None
    images = load_data(str(asset(IMAGES))).select(slice(0, 2))
    (agreement,) = check(shipped_graph, *broken, images).part("fixed").agreements
    assert agreement.first is not None and agreement.first.layer == shows_at
