from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from support.cli_support import fine, stas

from stas_neuro import load_bundle, open_model, replay
from stas_neuro.errors import InputError
from stas_neuro.importers.nir_file import read_network_here
from stas_neuro.importers.nir_graph import SUBTRACT, NirOptions, graph_of, read_nir
from stas_neuro.ir import LIF, Add, Array, Graph, Linear, Phase
from stas_neuro.reference import run_reference

STEPS, INPUTS, HIDDEN, OUTPUTS = 6, 20, 16, 5
F = np.float32


def written(path: Path, nodes: Mapping[str, Any], edges: Sequence[tuple[str, str]] | None = None) -> Path:
    """Write a network as a library does: a row of nodes unless edges are given, with no check of types."""
    names = list(nodes)
    edges = list(pairwise(names)) if edges is None else list(edges)
    nir.write(path, nir.NIRGraph(nodes=dict(nodes), edges=edges, type_check=False))
    return path


def read(path: Path, **options: Any) -> tuple[Graph, tuple[str, ...]]:
    options = {"dt": 1.0, "time_steps": STEPS} | options
    return graph_of(read_network_here(path), NirOptions(**options))


def entry(*shape: int) -> Any:
    return nir.Input(input_type={"input": np.array(shape)})


def leaving(*shape: int) -> Any:
    return nir.Output(output_type={"output": np.array(shape)})


def neurons(shape: Any, tau: Any, r: float = 1.0, threshold: float = 1.0, **fields: Any) -> Any:
    filled = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": threshold, "v_reset": 0.0} | fields
    return nir.LIF(
        **{name: np.broadcast_to(np.asarray(value, F), shape).copy()[()] for name, value in filled.items()}
    )


def affine(rng: np.random.Generator, into: int, out: int) -> Any:
    weight = rng.normal(0.1, 2 / np.sqrt(into), (out, into)).astype(F)
    return nir.Affine(weight=weight, bias=rng.normal(0, 0.2, out).astype(F))


def frames(shape: tuple[int, ...], seed: int = 0) -> Array:
    return (np.random.default_rng(seed).random((1, STEPS, *shape)) < 0.4).astype(np.float64)


def by_hand(layers: Sequence[Any], x: Array, step: Any) -> list[Array]:
    """Spikes (T, n) of each layer, of neurons that `step` (v, current) -> (v, spikes) describes."""
    spikes = []
    for layer in layers:
        v, fired = np.zeros(len(layer.bias)), []
        for frame in x:
            v, s = step(v, frame @ layer.weight.T.astype(np.float64) + layer.bias)
            fired.append(s)
        spikes.append(x := np.array(fired))
    return spikes


def snntorch(beta: float, threshold: float) -> Any:
    def step(v: Array, x: Array) -> tuple[Array, Array]:
        v = beta * v + x
        fired = v > threshold
        return np.where(fired, 0, v), fired

    return step


def norse(tau_mem_inv: float, dt: float, threshold: float) -> Any:
    def step(v: Array, x: Array) -> tuple[Array, Array]:
        v = v + dt * tau_mem_inv * (x - v)
        fired = v > threshold
        return np.where(fired, 0, v), fired

    return step


@pytest.mark.parametrize("batch", [(), (1,)])
@pytest.mark.parametrize("style", ["snntorch", "norse", "sinabs"])
def test_files_of_libraries_give_their_spikes(style: str, batch: tuple[int, ...], tmp_path: Path) -> None:
    # What each library writes for the neurons that it computes; see docs/nir.md.
    rng = np.random.default_rng(3)
    layers = [affine(rng, INPUTS, HIDDEN), affine(rng, HIDDEN, OUTPUTS)]
    step, dt, fields = {
        "snntorch": (snntorch(0.5, 1.0), 1e-4, {"tau": 2e-4, "r": 2.0, "threshold": 1.0}),
        "norse": (norse(500.0, 1e-3, 0.5), 1e-6, {"tau": F(1e-3) / F(500), "threshold": 0.5}),
        "sinabs": (norse(0.5, 1.0, 1.0), 1.0, {"tau": 2.0}),
    }[style]
    sizes = [() if style == "sinabs" else (HIDDEN,), () if style == "sinabs" else (OUTPUTS,)]
    path = written(
        tmp_path / "a.nir",
        {
            "input": entry(*batch, INPUTS),
            "0": layers[0],
            "1": neurons(sizes[0], **fields),
            "2": layers[1],
            "3": neurons(sizes[1], **fields),
            "output": leaving(*batch, OUTPUTS),
        },
    )
    graph, notes = read(path, dt=dt)
    assert notes == (SUBTRACT,)
    assert [lif.tau for lif in graph.of_type(LIF)] == [2.0, 2.0]
    x = frames((INPUTS, 1, 1))
    trace = run_reference(graph, x, record_spikes=True)
    hidden, out = by_hand(layers, x[0, :, :, 0, 0], step)
    assert 0 < hidden.mean() < 1
    assert np.array_equal(np.asarray(trace.spikes["1"]).reshape(STEPS, HIDDEN), hidden)
    assert np.array_equal(np.asarray(trace.spikes["3"]).reshape(STEPS, OUTPUTS), out)
    assert np.allclose(trace.logits[0], out.mean(axis=0), rtol=0, atol=1e-15)


def one_layer(path: Path, **fields: Any) -> Path:
    rng = np.random.default_rng(0)
    nodes = {
        "input": entry(4),
        "layer": affine(rng, 4, 3),
        "lif": neurons((3,), **{"tau": 2.0} | fields),
        "output": leaving(3),
    }
    return written(path, nodes)


def test_reading_takes_a_process_of_its_own(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "a.nir")
    assert read_nir(path, NirOptions(dt=1.0, time_steps=6))[0] == read(path)[0]


def test_dt_and_steps_are_asked_for(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "a.nir", tau=2e-6)
    with pytest.raises(InputError, match=r"dt, the time step, is not in the file .*2e-06.*--dt.*norse"):
        read(path, dt=None)
    with pytest.raises(InputError, match=r"lif \(LIF\): tau 2e-06 is 0\.002 of dt 0\.001.*dt squared"):
        read(path, dt=1e-3)
    with pytest.raises(InputError, match=r"not in the file; give --time-steps"):
        read(path, dt=1e-6, time_steps=None)


def test_names_of_classes_and_normalisation(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "a.nir")
    graph, _ = read(path, classes=("a", "b", "c"), mean=(0.5,) * 4, std=(0.25,) * 4, static=True, fire=">=")
    assert graph.classes == ("a", "b", "c")
    assert graph.preprocessing.mean == (0.5,) * 4
    assert graph.input.phase == Phase.ONCE
    assert graph.of_type(LIF)[0].fire == ">="
    with pytest.raises(InputError, match="the number of logits is 3, the number of classes is 2"):
        read(path, classes=("a", "b"))


def test_numbers_of_each_neuron_move_into_the_layer_before(tmp_path: Path) -> None:
    gains, thresholds = [1.0, 2.0, 4.0], [0.5, 1.0, 0.25]
    path = one_layer(tmp_path / "a.nir", r=gains, v_threshold=thresholds)
    graph, notes = read(path)
    assert any("weights of the layers before" in note for note in notes)
    (lif,) = graph.of_type(LIF)
    weight = nir.read(path).nodes["layer"].weight.astype(np.float64)
    scale = np.array(gains) / np.array(thresholds) * lif.threshold
    assert np.allclose(graph.tensor("layer", "weight")[:, :, 0, 0], weight * scale[:, None], rtol=1e-15)


def conv(rng: np.random.Generator, into: int, out: int, kernel: int, groups: int = 1, **fields: Any) -> Any:
    fields = {"stride": 1, "padding": 0, "dilation": 1, "input_shape": (1, 1)} | fields
    weight = rng.normal(0.2, 1 / kernel, (out, into // groups, kernel, kernel))
    return nir.Conv2d(weight=weight, bias=rng.normal(0, 0.1, out), groups=groups, **fields)


def naive_conv(x: Array, layer: Any) -> Array:
    """Convolve maps (C, H, W) by its definition."""
    out, each, kernel, _ = layer.weight.shape
    pad, stride = layer.padding[0], layer.stride[0]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    sides = [(side - kernel) // stride + 1 for side in x.shape[1:]]
    y = np.zeros((out, *sides))
    for o in range(out):
        first = o // (out // layer.groups) * each
        for i, j in np.ndindex(*sides):
            part = x[first : first + each, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            y[o, i, j] = (part * layer.weight[o]).sum() + layer.bias[o]
    return y


@pytest.mark.parametrize("sides", [(4, 4), (4, 6), (5, 3)])
@pytest.mark.parametrize("pool", ["SumPool2d", "AvgPool2d"])
def test_convolutions_pooling_and_flattened_maps(sides: tuple[int, int], pool: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    first = conv(rng, 2, 4, 3, groups=2, padding=1)
    after = [-(-side // 2) if side % 2 == 0 else side // 2 for side in sides]
    last = affine(rng, 4 * after[0] * after[1], 3)
    two = np.array([2, 2])
    path = written(
        tmp_path / "a.nir",
        {
            "input": entry(2, *sides),
            "conv": first,
            "lif": neurons((4, *sides), 2.0, threshold=0.4),
            "pool": getattr(nir, pool)(kernel_size=two, stride=two, padding=np.array([0, 0])),
            "flatten": nir.Flatten(input_type={"input": np.array([4, *after])}, start_dim=0, end_dim=-1),
            "fc": last,
            "out": neurons((3,), 2.0, threshold=0.4),
            "output": leaving(3),
        },
    )
    graph, notes = read(path)
    assert any("pooling by sum or average" in note for note in notes)
    x = frames((2, *sides), 2)
    spikes = run_reference(graph, x, record_spikes=True).spikes
    v, u = np.zeros((4, *sides)), np.zeros(3)
    for t, frame in enumerate(x[0]):
        v += (naive_conv(frame, first) - v) / 2
        s = v > np.float64(F(0.4))
        v[s] = 0
        assert np.array_equal(np.asarray(spikes["lif"])[0, t].reshape(s.shape), s)
        rows, columns = after
        cut = s[:, : 2 * rows, : 2 * columns].reshape(4, rows, 2, columns, 2)
        pooled = cut.sum(axis=(2, 4)) if pool == "SumPool2d" else cut.mean(axis=(2, 4))
        u += (last.weight.astype(np.float64) @ pooled.reshape(-1) + last.bias - u) / 2
        o = u > np.float64(F(0.4))
        u[o] = 0
        assert np.array_equal(np.asarray(spikes["out"])[0, t].reshape(3), o)


def test_an_input_that_counts_batch_and_steps(tmp_path: Path) -> None:
    # Rockpool writes the shape of a whole example, and layers of weights on its last axis.
    rng = np.random.default_rng(0)
    nodes = {
        "input": entry(1, STEPS, 4),
        "fc": affine(rng, 4, 3),
        "lif": neurons((3,), 2.0),
        "out": leaving(3),
    }
    path = written(tmp_path / "a.nir", nodes)
    assert read(path)[0].input.shape == (4, 1, 1)
    with pytest.raises(InputError, match="if its axes are images, steps and features, give --time-steps 6"):
        read(path, time_steps=5)


def test_edges_that_meet_are_added(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    nodes = {
        "input": entry(4), "a": affine(rng, 4, 3), "b": affine(rng, 4, 3), "lif": neurons((3,), 2.0),
        "output": leaving(3),
    }  # fmt: skip
    edges = [("input", "a"), ("input", "b"), ("a", "lif"), ("b", "lif"), ("lif", "output")]
    graph, _ = read(written(tmp_path / "a.nir", nodes, edges))
    assert [node.name for node in graph.of_type(Add)] == ["lif.sum"]


def test_a_layer_at_the_end_is_applied_to_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    nodes = {
        "input": entry(4), "a": affine(rng, 4, 3), "lif": neurons((3,), 2.0), "head": affine(rng, 3, 2),
        "output": leaving(2),
    }  # fmt: skip
    graph, _ = read(written(tmp_path / "a.nir", nodes))
    assert graph.node("head").phase == Phase.END
    assert isinstance(graph.node("head"), Linear)


@pytest.mark.parametrize("pool", [2, 4])
def test_an_average_before_the_last_layer(pool: int, tmp_path: Path) -> None:
    # Over the whole map it is the readout's mean over positions; else a layer takes all that is left.
    rng = np.random.default_rng(7)
    sizes, left = np.array([pool, pool]), 4 // pool
    nodes = {
        "input": entry(2, 4, 4), "conv": conv(rng, 2, 3, 3, padding=1), "lif": neurons((3, 4, 4), 2.0),
        "pool": nir.AvgPool2d(kernel_size=sizes, stride=sizes, padding=np.array([0, 0])),
        "flatten": nir.Flatten(input_type={"input": np.array([3, left, left])}, start_dim=0, end_dim=-1),
        "head": affine(rng, 3 * left**2, 2), "output": leaving(2),
    }  # fmt: skip
    graph, _ = read(written(tmp_path / "a.nir", nodes))
    assert graph.node("head").phase == (Phase.END if left == 1 else Phase.STEP)
    trace = run_reference(graph, frames((2, 4, 4)), record_spikes=True)
    spikes = np.asarray(trace.spikes["lif"]).reshape(STEPS, 3, left, pool, left, pool)
    mean = spikes.mean(axis=(0, 3, 5)).reshape(-1)
    head = nodes["head"]
    assert spikes.any()
    assert np.allclose(trace.logits[0], head.weight.astype(np.float64) @ mean + head.bias, atol=1e-12)


def test_names_that_a_graph_cannot_have_are_changed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    nodes = {"input": entry(4), "fc 1": affine(rng, 4, 3), "fc_1": neurons((3,), 2.0), "ß": leaving(3)}
    graph, _ = read(written(tmp_path / "a.nir", nodes))
    assert {node.name for node in graph.nodes} == {"input", "fc_1_2", "fc_1_2.tokens", "fc_1", "readout", "_"}


def cuba(tau_syn: float, **fields: float) -> Any:
    values = {"tau_mem": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 0.5, "v_reset": 0.0, "w_in": 1.0}
    values |= fields | {"tau_syn": tau_syn}
    return nir.CubaLIF(**{name: np.full(3, value) for name, value in values.items()})


def one_node(node: Any, path: Path) -> Path:
    rng = np.random.default_rng(0)
    return written(path, {"input": entry(4), "layer": affine(rng, 4, 3), "x": node, "output": leaving(3)})


def euler(node: Any, x: Array, dt: float) -> Array:
    """Spikes (T, 3) of a neuron of NIR on its input (T, 3), by Euler's method from the reset value."""
    kind = type(node).__name__
    reset = getattr(node, "v_reset", np.zeros(3))
    v, current, spikes = np.array(reset, np.float64), np.zeros(3), []
    for now in x:
        if kind == "IF":
            v = v + dt * node.r * now
        elif kind == "LIF":
            v = v + dt / node.tau * (node.v_leak - v + node.r * now)
        elif kind == "CubaLIF":
            current = current + dt / node.tau_syn * (-current + node.w_in * now)
            v = v + dt / node.tau_mem * (node.v_leak - v + node.r * current)
        else:
            v = np.array(now)
        fired = v > (node.threshold if kind == "Threshold" else node.v_threshold)
        v = np.where(fired, reset, v)
        spikes.append(fired)
    return np.array(spikes)


NEURONS: dict[str, tuple[Any, float]] = {
    "IF": (nir.IF(r=np.full(3, 8.0), v_threshold=np.array([0.5, 1.0, 2.0])), 0.25),
    "IF with a reset value": (
        nir.IF(r=np.full(3, 4.0), v_threshold=np.full(3, 0.75), v_reset=np.full(3, -0.25)), 0.25
    ),
    "Threshold": (nir.Threshold(threshold=np.array([0.125, 0.25, 0.5])), 1.0),
    "CubaLIF": (cuba(0.5, tau_mem=1.0, w_in=2.0), 0.5),
    "CubaLIF with a leak": (cuba(0.5, tau_mem=2.0, v_leak=0.25), 0.5),
    "LIF that leaks to its reset value": (neurons((3,), 2.0, v_leak=-0.5, v_reset=-0.5, threshold=0.25), 1.0),
    "LIF that leaks to another value": (neurons((3,), 2.0, v_leak=0.25, v_reset=-0.5, threshold=0.5), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_compute_what_eulers_method_does(name: str, tmp_path: Path) -> None:
    node, dt = NEURONS[name]
    graph, _ = read(one_node(node, tmp_path / "a.nir"), dt=dt)
    x = frames((4,), 6)
    layer = nir.read(tmp_path / "a.nir").nodes["layer"]
    for image, spikes in zip(
        x, run_reference(graph, x[..., None, None], record_spikes=True).spikes["x"], strict=True
    ):
        entering = image @ layer.weight.astype(np.float64).T + layer.bias
        wanted = euler(node, entering, dt)
        assert wanted.any()
        np.testing.assert_array_equal(spikes.reshape(wanted.shape) != 0, wanted)


def test_an_integrator_at_the_end_gives_its_last_membrane(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    head = affine(rng, 3, 2)
    nodes = {
        "input": entry(4), "layer": affine(rng, 4, 3), "lif": neurons((3,), 2.0, threshold=0.25),
        "head": head,
        "sum": nir.I(r=np.array([2.0, 4.0])), "output": leaving(2),
    }  # fmt: skip
    graph, notes = read(written(tmp_path / "a.nir", nodes), dt=0.5)
    assert any("after the last step" in note for note in notes)
    x = frames((4, 1, 1), 2)
    trace = run_reference(graph, x, record_spikes=True)
    for logits, spikes in zip(trace.logits, trace.spikes["lif"], strict=True):
        v = np.zeros(2)
        for now in spikes.reshape(-1, 3):
            v += 0.5 * np.array([2.0, 4.0]) * (head.weight.astype(np.float64) @ now + head.bias)
        assert spikes.any()
        np.testing.assert_allclose(logits, v, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (1,)])
def test_convolutions_of_sequences(batch: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(0.2, 0.5, (6, 1, 3)), rng.normal(0, 0.1, 6)
    layer = nir.Conv1d(input_shape=9, weight=weight, stride=2, padding=2, dilation=2, groups=3, bias=bias)
    nodes = {
        "input": entry(*batch, 3, 9), "conv": layer, "lif": neurons((6, 5), 2.0, threshold=0.3),
        "flatten": nir.Flatten(input_type={"input": np.array([6, 5])}, start_dim=0, end_dim=-1),
        "fc": affine(rng, 30, 2), "out": neurons((2,), 2.0, threshold=0.3), "output": leaving(2),
    }  # fmt: skip
    graph, _ = read(written(tmp_path / "a.nir", nodes))
    assert graph.input.shape == (3, 1, 9)
    x = frames((3, 9), 2)
    spikes = run_reference(graph, x[:, :, :, None], record_spikes=True).spikes["lif"]
    v = np.zeros((1, 6, 5))
    for t in range(STEPS):
        padded = np.pad(x[:, t], ((0, 0), (0, 0), (2, 2)))
        current = np.zeros((1, 6, 5))
        for out, place, tap in np.ndindex(6, 5, 3):
            current[:, out, place] += padded[:, out // 2, 2 * place + 2 * tap] * weight[out, 0, tap]
        v += (current + bias[:, None] - v) / 2
        fired = v > np.float64(F(0.3))
        v[fired] = 0
        np.testing.assert_array_equal(np.asarray(spikes)[:, t].reshape(fired.shape) != 0, fired)
    assert np.asarray(spikes).any()


ONE, ZERO, TWO = np.ones(3), np.zeros(3), np.array([2, 2])
REFUSED: dict[str, tuple[Any, str]] = {
    "cuba": (cuba(3.0), r"x \(CubaLIF\): its synaptic current lasts 3 steps of dt 1"),
    "if": (nir.IF(r=ONE, v_threshold=ZERO), r"x \(IF\): a threshold is not above the reset value"),
    "li": (nir.LI(tau=ONE, r=ONE, v_leak=ZERO), r"x \(LI\): weighs earlier steps less"),
    "delay": (nir.Delay(delay=ONE), r"x \(Delay\): delays by 1 steps of dt 1"),
    "threshold": (nir.Threshold(threshold=-ONE), r"x \(Threshold\): a threshold is not above"),
    "taus": (neurons((3,), [1.0, 2.0, 3.0]), "tau differs from neuron to neuron"),
    "nan": (neurons((3,), np.nan), "tau has values that are NaN"),
    "threshold of 0": (neurons((3,), 2.0, threshold=0.0), "is not above 0"),
    "scale": (nir.Scale(scale=np.array([1.0, 2.0])), "has 2 values for a value of shape"),
    "pool": (nir.SumPool2d(kernel_size=TWO, stride=TWO, padding=TWO), r"x \(SumPool2d\): takes a map"),
    "conv": (conv(np.random.default_rng(0), 1, 1, 3), r"x \(Conv2d\): takes a map"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    node, text = REFUSED[name]
    layer = affine(np.random.default_rng(0), 4, 3)
    nodes = {"input": entry(4), "layer": layer, "x": node, "lif": neurons((3,), 2.0), "output": leaving(3)}
    with pytest.raises(InputError, match=text):
        read(written(tmp_path / "a.nir", nodes))


def test_every_refusal_is_reported(tmp_path: Path) -> None:
    nodes = {"input": entry(3), "a": cuba((3,)), "b": nir.Delay(delay=ONE), "output": leaving(3)}
    with pytest.raises(InputError, match=r"a \(CubaLIF\).*b \(Delay\)"):
        read(written(tmp_path / "a.nir", nodes))


@pytest.mark.parametrize(
    ("edges", "text"),
    [
        ([("input", "a"), ("a", "lif"), ("lif", "a"), ("lif", "output")], "in or behind a cycle"),
        ([("input", "a"), ("a", "lif"), ("a", "output")], "lif: no edge begins there"),
        ([("input", "a"), ("lif", "output")], "a: no edge begins there"),
        ([("input", "a"), ("a", "lif"), ("a", "output"), ("lif", "output")], "several edges end there"),
    ],
)
def test_edges_that_are_no_network(edges: list[tuple[str, str]], text: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = {"input": entry(3), "a": affine(rng, 3, 3), "lif": neurons((3,), 2.0), "output": leaving(3)}
    with pytest.raises(InputError, match=text):
        read(written(tmp_path / "a.nir", nodes, edges))


def test_a_file_is_a_model_to_open_and_to_compile(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "a.nir", tau=2e-4)
    graph = open_model(path, dt=1e-4, time_steps=6)
    assert graph == read(path, dt=1e-4)[0]
    held = open_model(str(path), dt=1e-4, time_steps=6, axes="BCHW", fire=">=")
    assert isinstance(held, Graph) and held.input.phase == Phase.ONCE
    options = ("--dt", "1e-4", "--time-steps", "6", "-o", tmp_path / "a.stas")
    done = fine("compile", path, *options, "--json")
    document = json.loads(done.out)
    assert document["source"] == str(path) and list(document["source_sha256"]) == ["a.nir"]
    assert any("subtract" in note for note in document["notes"])
    bundle = load_bundle(tmp_path / "a.stas")
    assert bundle.graph == graph
    with pytest.raises(InputError, match="whose dt it does not record"):
        replay(bundle)
    # Its float program goes back out as it came in.
    fine("convert", tmp_path / "a.stas", "--to", "nir", "-o", tmp_path / "b.nir", "--dt", "1e-3")
    assert open_model(tmp_path / "b.nir") == graph
    with pytest.raises(InputError, match="the file says that a frame a step is its input"):
        open_model(tmp_path / "b.nir", axes="BCHW")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"neurons": {int: 1}}, "neurons: not an option for a NIR file; use axes, classes, dt"),
        ({"axes": "TBCHW"}, "axes are 'TBCHW'; use BTCHW"),
        ({"fire": "<"}, "fire is '<'; use > or >="),
    ],
)
def test_options_that_do_not_apply(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=text):
        open_model(one_layer(tmp_path / "a.nir"), **options)


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        ("a.nir", ("--weights", "w.pth"), "--weights is given, and a.nir is a NIR file; leave --weights out"),
        ("a.nir", ("--arch", "spikformer"), "--arch is given, and a.nir is not a file of released weights"),
        (
            "run",
            ("--dt", "1"),
            "--dt is given, and run is not file.py:function, a NIR or a netx file; leave --dt out",
        ),
        (
            "run",
            ("--time-steps", "4"),
            "--time-steps is given, and run is not file.py:function, a NIR or a netx file",
        ),
        ("a.nir", (), "dt, the time step, is not in the file"),
    ],
)
def test_commands_refuse_options_of_other_models(
    model: str, options: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_layer(Path("a.nir"))
    Path("run").mkdir()
    done = stas("compile", model, *options, "-o", "out.stas")
    assert done.code == 2 and text in done.err
