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

from stas_neuro.api import fold
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import CheckFailed
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.network import Layer, Network
from stas_neuro.ir import LIF, FixedLIF, FixedSpikeMatMul, Graph, HaltAccumulate, IRError, Output, Phase
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.verifier import Verification, driver, verify

Array = np.ndarray
Fault = Callable[[Network, np.random.Generator], tuple[Network, str] | None]
"""Gives the network with one fault and the layer that has it; None where it has no place for one."""


def choice(rng: np.random.Generator, items: Any) -> Any:
    return items[rng.integers(len(items))] if len(items) else None


def with_params(network: Network, layer: Layer, **changes: Any) -> tuple[Network, str]:
    changed = replace(layer, params={**layer.params, **changes})
    layers = tuple(changed if each is layer else each for each in network.layers)
    return replace(network, layers=layers), layer.name


def with_tensor(network: Network, key: str, array: Array) -> tuple[Network, str] | None:
    if np.array_equal(array, network.tensors[key]):
        return None
    return replace(network, tensors={**network.tensors, key: array}), key.rpartition("/")[0]


def with_entry(
    network: Network, key: str, place: tuple[int, ...], change: Callable[[int], int]
) -> tuple[Network, str] | None:
    array = network.tensors[key].copy()
    array[place] = change(int(array[place]))
    return with_tensor(network, key, array)


def one_entry(network: Network, param: str, rng: np.random.Generator) -> tuple[str, tuple[int, ...]] | None:
    """A random entry of that parameter of a random layer."""
    key = choice(rng, [key for key in network.tensors if key.endswith(f"/{param}")])
    return key and (key, tuple(int(rng.integers(size)) for size in network.tensors[key].shape))


def flip_a_weight_bit(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    key, place = one_entry(network, "weight", rng)  # type: ignore[misc]
    bits = network.layer(key.rpartition("/")[0]).params["weight_bits"]
    bit = int(rng.integers(9 - bits, 8)) if bits > 1 else 8  # those of a mantissa, below its sign
    return with_entry(network, key, place, lambda weight: weight ^ (1 << bit))


def shift_an_exponent(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    key, place = one_entry(network, "weight_exp", rng)  # type: ignore[misc]
    return with_entry(network, key, place, lambda exponent: exponent + 1 if exponent < 0 else exponent - 1)


def compare_by_another_sign(network: Network, rng: np.random.Generator) -> tuple[Network, str]:
    return with_params(network, choice(rng, network.of_op("LIF")), fire=">=")


def drop_a_bias(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    key, place = one_entry(network, "bias", rng)  # type: ignore[misc]
    return with_entry(network, key, place, lambda bias: 0)


def transpose_a_kernel(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    square = [
        key for key, array in network.tensors.items()
        if key.endswith("/weight") and array.shape[-1] == array.shape[-2] > 1
    ]  # fmt: skip
    key = choice(rng, square)
    return key and with_tensor(network, key, network.tensors[key].swapaxes(-1, -2).copy())


def change_a_table_entry(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    entry = one_entry(network, "table", rng)
    return entry and with_entry(network, *entry, lambda score: score + 1 if score == 0 else score - 1)


def move_a_halting_limit(network: Network, rng: np.random.Generator) -> tuple[Network, str] | None:
    layer = choice(rng, network.of_op("HaltAccumulate"))
    return layer and with_params(network, layer, limit=layer.params["limit"] - 1)


def cross_a_wire(network: Network, rng: np.random.Generator) -> tuple[Network, str]:
    """Neurons of keys take the input of those of queries."""
    lif = choice(rng, [layer.name for layer in network.layers if layer.name.endswith(".k_lif")])
    wires = tuple(
        replace(wire, src=wire.src.removesuffix("k") + "q")
        if (wire.dst, wire.dst_port) == (lif, "x")
        else wire
        for wire in network.wires
    )
    return replace(network, wires=wires), lif


def move_a_threshold(network: Network, rng: np.random.Generator) -> tuple[Network, str]:
    layer = choice(rng, network.of_op("LIF"))
    return with_params(network, layer, vth=layer.params["vth"] + int(rng.choice([-1, 1])))


FAULTS: tuple[Fault, ...] = (
    flip_a_weight_bit,
    shift_an_exponent,
    compare_by_another_sign,
    drop_a_bias,
    transpose_a_kernel,
    change_a_table_entry,
    move_a_halting_limit,
    cross_a_wire,
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
        if isinstance(node, LIF | HaltAccumulate | Output):
            seen.add(name)
        else:
            to_visit += [edge.dst for edge in graph.consumers(node) if edge.dst not in visited]
    return seen


def check(graph: Graph, network: Network, layer: str, images: LabelledImages) -> Verification:
    """Certify a network that is not the graph's, and check that it fails for the right reason."""
    result = verify(graph, images, lava_network=network)
    (part,) = result.parts
    assert not result.passed
    assert {difference.layer for difference in part.structure} == {layer}
    with pytest.raises(CheckFailed, match=f"Lava's fixed network is not the graph's: {layer}: "):
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
    except IRError:  # not every network fits into so few bits
        reject()
    network = build_network(graph)
    found = fault(network, np.random.default_rng(seed))
    assume(found is not None)
    assert found is not None
    images = pixels(graph, 2, seed)
    check(graph, *found, images)
    assert verify(graph, images, lava_network=network).passed  # without the fault


RECIPE = Recipe(
    norm=False, halting="raster", blocks=2, height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3
)  # fmt: skip


def meeting_its_threshold(graph: Graph, name: str) -> Graph:
    """The graph with a threshold that the product of a spike matrix meets exactly in its first step."""
    node, product = graph.node(name), graph.node(graph.inputs(graph.node(name))["x"].src)
    assert isinstance(node, FixedLIF) and isinstance(product, FixedSpikeMatMul)
    changed = replace(node, vth=1 << product.exponent)
    return replace(graph, nodes=tuple(changed if each is node else each for each in graph.nodes))


GRAPH = meeting_its_threshold(Quantise()(build(RECIPE)), "blocks.0.attn_lif")
FAULTY: Mapping[str, tuple[Callable[[Network], tuple[Network, str] | None], str]] = {
    "a weight bit": (
        lambda network: with_entry(network, "blocks.0.fc1/weight", (1, 2), lambda weight: weight ^ 64),
        "blocks.0.fc2_lif",
    ),
    "an exponent": (
        lambda network: with_entry(network, "stem.conv1/weight_exp", (2,), lambda exponent: exponent - 1),
        "stem.lif1",
    ),
    "a comparison": (
        lambda network: with_params(network, network.layer("blocks.0.attn_lif"), fire=">="),
        "blocks.0.attn_lif",
    ),
    "a bias": (
        lambda network: with_entry(network, "blocks.1.proj/bias", (3,), lambda bias: 0),
        "blocks.1.proj_lif",
    ),
    "a kernel": (
        lambda network: with_tensor(
            network, "stem.conv0/weight", network.tensors["stem.conv0/weight"].swapaxes(2, 3).copy()
        ),
        "stem.lif0",
    ),
    "a table": (
        # The entry of a token whose first channel is 0.
        lambda network: with_entry(
            network, "score1/table", (-network.layer("score1").params["low"],), lambda score: score + 1
        ),
        "halt1",
    ),
    "a limit": (
        lambda network: with_params(network, network.layer("halt0"), limit=1),
        "halt0",
    ),
    "a wire": (
        lambda network: cross_a_wire(network, np.random.default_rng(0)),
        "blocks.1.k_lif",
    ),
    "a threshold": (
        lambda network: with_params(
            network,
            network.layer("blocks.0.attn_lif"),
            vth=network.layer("blocks.0.attn_lif").params["vth"] - 1,
        ),
        "blocks.0.attn_lif",
    ),
    "logits": (
        lambda network: with_entry(network, "head/bias", (1,), lambda bias: bias + 1),
        "output",
    ),
}
"""Faults that show in what neurons do, and where they first show."""


@pytest.mark.parametrize("what", FAULTY)
def test_a_fault_that_shows_is_placed_by_what_neurons_do_alone(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it, shows_at = FAULTY[what]
    broken = break_it(build_network(GRAPH))
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


def test_a_fault_that_no_neuron_shows_is_named_all_the_same() -> None:
    images = pixels(GRAPH, 3, 0)
    network = build_network(GRAPH)
    spikes = run_reference(GRAPH, images.images.astype(np.int64), record_spikes=True).spikes
    # A channel that is silent, and the weight of the next layer that would have come of it.
    silent = np.flatnonzero(~spikes["blocks.1.fc2_lif"].any(axis=(0, 1, 2)))
    faults = [
        with_entry(network, "blocks.1.fc2/weight", (0, int(silent[0])), lambda weight: weight ^ 64),
        with_params(network, network.layer("stem.lif0"), fire=">="),
        with_entry(network, "score0/table", (-1,), lambda score: score - 1),
    ]
    for fault in faults:
        assert fault is not None
        (agreement,) = check(GRAPH, *fault, images).part("fixed").agreements
        assert agreement.equal and agreement.first is None


SHIPPED: Mapping[str, tuple[Callable[[Network], tuple[Network, str] | None], str]] = {
    "a weight bit": (
        lambda network: with_entry(network, "blocks.1.fc1/weight", (7, 11), lambda weight: weight ^ 2),
        "blocks.1.fc1_lif",
    ),
    "an exponent": (
        lambda network: with_entry(network, "blocks.0.v/weight_exp", (5,), lambda exponent: exponent + 1),
        "blocks.0.v_lif",
    ),
    "a comparison": (
        lambda network: with_params(network, network.layer("blocks.0.attn_lif"), fire=">="),
        "blocks.0.attn_lif",
    ),
    "a bias": (
        lambda network: with_entry(network, "stem.conv2/bias", (3,), lambda bias: 0),
        "stem.lif2",
    ),
    "a kernel": (
        lambda network: with_tensor(
            network, "stem.conv1/weight", network.tensors["stem.conv1/weight"].swapaxes(2, 3).copy()
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
    broken = break_it(build_network(shipped_graph))
    assert broken is not None
    images = load_data(str(asset(IMAGES))).select(slice(0, 2))
    (agreement,) = check(shipped_graph, *broken, images).part("fixed").agreements
    assert agreement.first is not None and agreement.first.layer == shows_at
