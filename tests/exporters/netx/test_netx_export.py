"""Integer programs as netx files, and back: the same integers in every state, spike and logit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.fixed_oracle import assert_is, run_oracle
from support.fixed_random import quantised_at_random
from support.ir_random import Recipe, build
from support.netx_graphs import inputs_for, netx_graph

import stas_neuro
from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.errors import InputError
from stas_neuro.exporters.netx.origin import KEY
from stas_neuro.exporters.netx.write import refusals, write_netx
from stas_neuro.importers.netx_file import read_netx_here
from stas_neuro.importers.netx_graph import NetxOptions, graphs_of
from stas_neuro.ir import (
    LIF,
    Conv2d,
    Edge,
    FixedLIF,
    FixedLinear,
    Graph,
    Input,
    IRError,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Stage,
    SynapticCurrent,
    Tokens,
)
from stas_neuro.passes.scales import LayerScale, Synapses, without_exponents
from stas_neuro.reference import run_reference
from stas_neuro.targets import CannotExpress, convert
from stas_neuro.trace import Trace

SEEDS = range(60)


def round_trip(graph: Graph, path: Path, options: NetxOptions | None = None) -> Graph:
    write_netx(graph, path)
    return graphs_of(read_netx_here(path), options or NetxOptions()).quantised


def traced(graph: Graph, images: np.ndarray) -> Trace:
    return run_reference(graph, images, record_spikes=True, record_states=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_round_trip_computes_the_same_integers(seed: int, tmp_path: Path) -> None:
    graph = netx_graph(seed)
    assert not refusals(graph)
    again = round_trip(graph, tmp_path / "a.net")
    assert [node.name for node in again.nodes] == [node.name for node in graph.nodes]
    images = inputs_for(graph, 3, seed)
    ours, theirs = traced(graph, images), traced(again, images)
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    for what in ("spikes", "states"):
        left, right = getattr(ours, what), getattr(theirs, what)
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    # Written again, it is the same file but for what only the first graph knew.
    assert round_trip(again, tmp_path / "b.net") == again


@pytest.mark.parametrize("seed", range(8))
def test_what_is_read_is_what_loops_over_integers_compute(seed: int, tmp_path: Path) -> None:
    graph = round_trip(netx_graph(seed), tmp_path / "a.net")
    images = inputs_for(graph, 1, seed)
    assert_is(run_oracle(graph, images[0]), traced(graph, images), 0)


def test_without_the_origin_names_are_made_up_and_spikes_are_the_same(tmp_path: Path) -> None:
    graph = netx_graph(3)
    write_netx(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "a") as file:
        del file[KEY]
    with pytest.raises(InputError, match="T, the steps of an inference, is not in the file; give --time"):
        graphs_of(read_netx_here(tmp_path / "a.net"), NetxOptions())
    again = graphs_of(read_netx_here(tmp_path / "a.net"), NetxOptions(time_steps=graph.time_steps)).quantised
    images = inputs_for(graph, 2)
    spikes = [list(traced(each, images).spikes.values()) for each in (graph, again)]
    for ours, theirs in zip(*spikes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_random_networks_are_busy() -> None:
    busy = 0
    for seed in SEEDS:
        graph = netx_graph(seed)
        fired = traced(graph, inputs_for(graph, 3, seed)).spikes.values()
        busy += all(spikes.any() and not spikes.all() for spikes in fired)
    assert busy > len(SEEDS) / 2


def changed(graph: Graph, name: str, **changes: object) -> Graph:
    nodes = tuple(replace(node, **changes) if node.name == name else node for node in graph.nodes)  # type: ignore[arg-type]
    return replace(graph, nodes=nodes)


def with_tensor(graph: Graph, key: str, tensor: np.ndarray) -> Graph:
    return replace(graph, tensors={**graph.tensors, key: tensor.astype(np.int16)})


def test_what_netx_cannot_say_is_refused_with_every_reason(tmp_path: Path) -> None:
    graph = next(
        g for g in map(netx_graph, SEEDS) if any(n.name == "fc0" and not _has(g, "fc0.u") for n in g.nodes)
    )
    weight = graph.tensors["fc0/weight"]
    odd = with_tensor(graph, "fc0/weight_exp", np.full(len(weight), -3))
    odd = changed(with_tensor(odd, "fc0/bias", np.ones(len(weight))), "fc0", bias_exp=0)
    wide = with_tensor(graph, "fc0/weight_exp", np.full(len(weight), 5))
    none = with_tensor(graph, "fc0/weight", np.zeros_like(weight))
    for bad, wanted in (
        (odd, ["exponent below 0 that rounds its sums", "no multiples of 64"]),
        (wide, ["netx holds -256..254"]),
        (none, ["of which none is above 0"]),
    ):
        told = [f"{problem.where}: {problem.what}" for problem in refusals(bad)]
        assert len(told) == len(wanted)
        assert all(part in what and what.startswith("fc0: ") for part, what in zip(wanted, told, strict=True))


def _has(graph: Graph, name: str) -> bool:
    return any(node.name == name for node in graph.nodes)


def test_attention_and_halting_are_refused(tmp_path: Path) -> None:
    folded = build(Recipe(norm=False, blocks=1, width=4))
    bundle = Bundle(folded, Provenance(source=""), {}, quantised_at_random(folded, 1))
    with pytest.raises(CannotExpress, match=r"real numbers: netx describes integers; .*--arithmetic fixed"):
        convert(bundle, "netx", tmp_path / "a.net")
    with pytest.raises(CannotExpress) as error:
        convert(bundle, "netx", tmp_path / "a.net", arithmetic="fixed")
    text = str(error.value)
    for part in ("multiplies spikes by spikes", "decides on halting", "is gated by halting", "a chain"):
        assert part in text
    assert not (tmp_path / "a.net").exists()


def test_only_a_file_of_ours_is_replaced(tmp_path: Path) -> None:
    graph, path = netx_graph(0), tmp_path / "a.net"
    bundle = Bundle(graph, Provenance(source=""), {}, graph)
    path.write_text("mine")
    with pytest.raises(InputError, match="is no netx file of stas-neuro"):
        convert(bundle, "netx", path, arithmetic="fixed", force=True)
    path.unlink()
    convert(bundle, "netx", path, arithmetic="fixed")
    convert(bundle, "netx", path, arithmetic="fixed", force=True)


def test_heads_become_neurons_that_add_up(tmp_path: Path) -> None:
    graph = next(g for g in map(netx_graph, SEEDS) if _has(g, "head"))
    write_netx(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        last = file[f"layer/{len(file['layer']) - 1}"]
        neuron = last["neuron"]
        assert (neuron["vDecay"][()], neuron["iDecay"][()], neuron["vThMant"][()]) == (0, 4096, 131071)
        np.testing.assert_array_equal(last["weight"][()], graph.tensors["head/weight"])
    assert len(graph.of_type(FixedLIF)) > 1 and graph.of_type(FixedLinear)


def test_a_network_of_real_numbers_is_compiled_for_netx(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    where = {"phase": Phase.STEP, "scope": "block0"}
    nodes = (
        Input(name="input", phase=Phase.STEP, scope="stem", shape=(2, 5, 5)),
        Conv2d(name="conv", **where, in_channels=2, out_channels=4, kernel=3, stride=2, padding=1, bias=True),
        LIF(name="conv_lif", **where, threshold=0.5, fire=">="),
        Conv2d(name="fc", **where, in_channels=4, out_channels=6, kernel=3, stride=1, padding=0, bias=True),
        Tokens(name="tokens", **where),
        SynapticCurrent(name="u", **where, tau=1.5, features=6, bias=True),
        LIF(name="lif", **where, tau=3.0, threshold=0.7, fire=">", decay_input=False),
        Readout(name="readout", phase=Phase.END, scope="head", mode="mean-field", blocks=1),
        Output(name="output", phase=Phase.END, scope="head"),
    )  # fmt: skip
    tensors = {
        f"{node.name}/{param}": rng.normal(0.05, 0.3, shape)
        for node in nodes
        for param, shape in node.params(6).items()
    }
    tensors["fc/bias"] = np.zeros(6)
    folded = Graph(
        stage=Stage.FOLDED,
        time_steps=6,
        nodes=nodes,
        edges=tuple(Edge(a.name, a.OUTPUTS[0], b.name, b.input_ports[0]) for a, b in pairwise(nodes)),
        tensors=tensors,
        classes=tuple("abcdef"),
        preprocessing=Preprocessing((0.0, 0.0), (1.0, 1.0)),
    )
    assert refusals(stas_neuro.compile(folded, bits=8, input_encoding="spikes").of("fixed"))
    bundle = stas_neuro.compile(folded, bits=8, exponents="none", input_encoding="spikes")
    assert bundle.provenance.options["exponents"] == "none"
    fixed = bundle.of("fixed")
    convert(bundle, "netx", tmp_path / "a.net", arithmetic="fixed")
    again = graphs_of(read_netx_here(tmp_path / "a.net"), NetxOptions()).quantised
    images = (rng.random((8, 6, 2, 5, 5)) < 0.4).astype(np.float64)
    ours, theirs = (traced(graph, images.astype(np.int64)) for graph in (fixed, again))
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.states["lif"], theirs.states["lif"])
    with_exponents = stas_neuro.compile(folded, bits=8, input_encoding="spikes").of("fixed")
    usual = traced(with_exponents, images.astype(np.int64))
    real = run_reference(folded, images, record_spikes=True)
    for name, spikes in ours.spikes.items():
        assert 0.02 < spikes.mean() < 0.98
        equal, known = ((each == real.spikes[name]).mean() for each in (spikes, usual.spikes[name]))
        assert equal > max(0.95, known - 0.01)


def test_a_layer_that_needs_exponents_is_named() -> None:
    scale = LayerScale(1.0, (-1, -1))
    one = np.ones((2, 1))
    synapses = Synapses("fc", one, one[:, 0], one[:, 0], np.ones(1), 0, 1, None)
    with pytest.raises(IRError, match="fc: its weights need an exponent of -1, and are to have none"):
        without_exponents(synapses, scale)
    with pytest.raises(IRError, match=r"fc: a bias is 1e\+06, beside .* 262080 at most"):
        without_exponents(replace(synapses, bias=1e6 * one[:, 0]), replace(scale, exponents=(0, 0)))
