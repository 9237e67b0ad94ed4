"""The comparison of a Lava network with its graph: silent on the graph's own, and every change is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, recipes

from stas_neuro.exporters.lava import build as building
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.network import Layer, Network, Value, Wire
from stas_neuro.exporters.lava.structure import Difference, differences
from stas_neuro.ir import Graph
from stas_neuro.passes.quantise import Quantise

FLOAT = build(Recipe(norm=False, stem="learned"))
FIXED = Quantise()(FLOAT)
OTHER = Quantise(encoding="bias", exponents="channel")(
    build(Recipe(norm=False, halting="rectangular", sdsa=True, membrane=True, stem="mean"))
)
GRAPHS = pytest.mark.parametrize("graph", [FLOAT, FIXED, OTHER], ids=["float", "fixed", "other"])


def layers_with(network: Network, name: str, **changes: Any) -> Network:
    layers = (replace(layer, **changes) if layer.name == name else layer for layer in network.layers)
    return replace(network, layers=tuple(layers))


def params_with(network: Network, name: str, **changes: Any) -> Network:
    return layers_with(network, name, params={**network.layer(name).params, **changes})


def tensor_with(network: Network, key: str, change: Callable[[np.ndarray], np.ndarray]) -> Network:
    return replace(network, tensors={**network.tensors, key: change(network.tensors[key].copy())})


def only(graph: Graph, network: Network) -> Difference:
    found = differences(graph, network)
    assert len(found) == 1, found
    return found[0]


@settings(max_examples=60)
@given(recipe=recipes(norm=False), fixed=st.booleans())
def test_a_networks_own_graph_differs_in_nothing(recipe: Recipe, fixed: bool) -> None:
    graph = build(recipe)
    graph = Quantise()(graph) if fixed else graph
    assert differences(graph, build_network(graph)) == []


@GRAPHS
def test_a_file_differs_in_nothing(graph: Graph, tmp_path: Path) -> None:
    build_network(graph).save(tmp_path)
    assert differences(graph, Network.load(tmp_path)) == []


# The changes that a certificate has to catch


def set_at(index: tuple[int, ...], value: Callable[[int], int]) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[index] = value(int(array[index]))
        return array

    return change


def test_a_flipped_bit_of_a_weight_is_named_with_its_place() -> None:
    weight = FIXED.tensor("blocks.1.fc1", "weight")
    changed = tensor_with(build_network(FIXED), "blocks.1.fc1/weight", set_at((3, 2), lambda w: w ^ 16))
    difference = only(FIXED, changed)
    assert difference == Difference("blocks.1.fc1", "weight[3, 2]", str(weight[3, 2]), str(weight[3, 2] ^ 16))
    assert (
        str(difference) == f"blocks.1.fc1: weight[3, 2] is {weight[3, 2] ^ 16}, in the graph {weight[3, 2]}"
    )


def test_a_shifted_exponent_is_named() -> None:
    changed = tensor_with(build_network(FIXED), "stem.conv1/weight_exp", lambda e: e + np.int16(1))
    found = only(FIXED, changed)
    assert (found.layer, found.what) == ("stem.conv1", "weight_exp[0]")
    assert int(found.network) == int(found.graph) + 1


def test_another_comparison_is_named() -> None:
    changed = params_with(build_network(FIXED), "blocks.0.q_lif", fire=">=")
    assert only(FIXED, changed) == Difference("blocks.0.q_lif", "fire", "'>'", "'>='")


def test_a_dropped_bias_is_named() -> None:
    network = build_network(FIXED)
    tensors = {key: array for key, array in network.tensors.items() if key != "head/bias"}
    assert only(FIXED, replace(network, tensors=tensors)) == Difference(
        "head", "bias", "int16 (3,)", "absent"
    )
    found = only(FIXED, tensor_with(network, "head/bias", np.zeros_like))
    assert (found.layer, found.what, found.network) == ("head", "bias[0]", "0")


def test_a_transposed_kernel_is_named() -> None:
    changed = tensor_with(build_network(FIXED), "stem.conv0/weight", lambda w: w.swapaxes(2, 3))
    found = only(FIXED, changed)
    assert found.layer == "stem.conv0" and found.what.startswith("weight[0, 0, 0, 1]")


# Any change at all


@GRAPHS
def test_every_parameter_of_every_layer_is_compared(graph: Graph) -> None:
    network = build_network(graph)
    for layer in network.layers:
        for key, value in layer.params.items():
            for other in others(value):
                found = only(graph, params_with(network, layer.name, **{key: other}))
                assert found == Difference(layer.name, key, repr(value), repr(other))
            fewer = {name: value for name, value in layer.params.items() if name != key}
            assert only(graph, layers_with(network, layer.name, params=fewer)).what == key
        more = only(graph, params_with(network, layer.name, gain=2))
        assert (more.layer, more.what, more.network) == (layer.name, "gain", "2")


def others(value: Any) -> Iterator[Any]:
    """Values that a parameter may be confused with."""
    if isinstance(value, bool):
        yield from (not value, int(value))
    elif isinstance(value, int):
        yield from (value + 1, -value - 1, float(value))
    elif isinstance(value, float):
        yield np.nextafter(value, 1e9).item()
    elif isinstance(value, str):
        yield value + " "
    else:
        yield (*value, 1)


@GRAPHS
def test_every_number_of_every_tensor_is_compared(graph: Graph) -> None:
    network = build_network(graph)
    for key, array in network.tensors.items():
        layer, param = key.rsplit("/")
        last = tuple(size - 1 for size in array.shape)

        def next_last(array: np.ndarray, last: tuple[int, ...] = last) -> np.ndarray:
            array[last] = array[last] + 1 if array.dtype == np.int16 else np.nextafter(array[last], 9)
            return array

        found = only(graph, tensor_with(network, key, next_last))
        assert (found.layer, found.what) == (layer, f"{param}[{', '.join(map(str, last))}]")
        assert (found.graph, found.network) == (str(array[last]), str(next_last(array.copy())[last]))
        wider = only(graph, tensor_with(network, key, lambda a: a.astype(np.float32)))
        assert (wider.layer, wider.what, wider.network) == (layer, param, f"float32 {array.shape}")
        flat = only(graph, tensor_with(network, key, lambda a: a[None]))
        assert flat.graph == f"{array.dtype} {array.shape}"
    found = only(graph, replace(network, tensors={**network.tensors, "nobody/weight": np.zeros(2)}))
    assert found == Difference("nobody", "weight", "absent", "float64 (2,)")


def test_zeros_of_either_sign_are_two_numbers() -> None:
    tensors = {
        key: np.zeros_like(array) if key == "head/bias" else array for key, array in FLOAT.tensors.items()
    }
    graph = replace(FLOAT, tensors=tensors)
    found = only(graph, tensor_with(build_network(graph), "head/bias", np.negative))
    assert (found.what, found.graph, found.network) == ("bias[0]", "0.0", "-0.0")


@GRAPHS
def test_every_wire_is_compared(graph: Graph) -> None:
    network = build_network(graph)
    for index, wire in enumerate(network.wires):

        def rewired(*given: Wire, index: int = index) -> Network:
            return replace(network, wires=(*network.wires[:index], *given, *network.wires[index + 1 :]))

        place = (wire.dst, f"input {wire.dst_port}")
        cut = only(graph, rewired())
        assert (cut.layer, cut.what, cut.network) == (*place, "open")
        late = differences(graph, rewired(replace(wire, delay=1 - wire.delay)))
        assert place in [(found.layer, found.what) for found in late]
        other = only(graph, rewired(replace(wire, src_port="other")))
        assert (other.layer, other.what) == place and other.network.startswith(f"from {wire.src}:other")
        twice = only(graph, rewired(wire, wire))
        assert (twice.layer, twice.what) == place and " and " in twice.network


@GRAPHS
def test_what_a_layer_is_is_compared(graph: Graph) -> None:
    network = build_network(graph)
    for layer in network.layers:
        name = layer.name
        assert only(graph, layers_with(network, name, op="Dense")).what == "op"
        assert only(graph, layers_with(network, name, phase="later")).what == "phase"
        for port, value in layer.outputs.items():
            other = {**layer.outputs, port: Value("other", value.shape)}
            assert only(graph, layers_with(network, name, outputs=other)).what == f"output {port}"
        doubled = tuple(each for each in network.layers for _ in range(1 + (each is layer)))
        more = only(graph, replace(network, layers=doubled))
        assert (more.layer, more.network) == (name, "2")
        fewer = tuple(each for each in network.layers if each.name != name)
        assert Difference(name, "number of layers of this name", "1", "0") in differences(
            graph, replace(network, layers=fewer)
        )
    stranger = Layer(name="nobody", op="Linear", phase="step", params={}, outputs={})
    found = only(graph, replace(network, layers=(*network.layers, stranger)))
    assert found == Difference("nobody", "layer", "absent", "Linear")


@GRAPHS
def test_what_the_whole_is_is_compared(graph: Graph) -> None:
    network = build_network(graph)
    changes: dict[str, Any] = {
        "arithmetic": "double", "time_steps": 9, "classes": ("a",), "mean": (0.5,), "std": (1.0,),
    }  # fmt: skip
    for what, value in changes.items():
        found = only(graph, replace(network, **{what: value}))
        assert (found.layer, found.what, found.network) == ("", what, repr(value))
        assert str(found).startswith(f"{what} is ")
    first, second, *rest = network.layers
    found = only(graph, replace(network, layers=(second, first, *rest)))
    assert found == Difference(second.name, "order", f"after {first.name}", f"before {first.name}")


def test_a_fault_of_the_code_that_builds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    own = building._params
    monkeypatch.setattr(
        building, "_params", lambda node: own(node) | ({"vth": 7} if "vth" in own(node) else {})
    )
    assert {(found.what, found.network) for found in differences(FIXED, build_network(FIXED))} == {
        ("vth", "7")
    }
    monkeypatch.undo()
    monkeypatch.setattr(building, "_score_masks", lambda graph: ())
    found = differences(FIXED, build_network(FIXED))
    assert [(each.layer, each.what, each.network) for each in found] == [
        ("score0", "input alive", "open"),
        ("score1", "input alive", "open"),
    ]


def test_the_graph_of_another_network_differs() -> None:
    assert differences(FIXED, build_network(FLOAT))[0] == Difference("", "arithmetic", "'fixed'", "'float'")
