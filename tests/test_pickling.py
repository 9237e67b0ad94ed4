"""Graphs, bundles, records and traces go through process pools unchanged, and stay read-only."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from support.fixed_random import pixels_for
from support.ir_random import Recipe, build

from stas_neuro.bundle import Bundle, Provenance, load_bundle, save_bundle
from stas_neuro.ir import Graph
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference


def networks() -> tuple[Graph, Graph]:
    folded = build(Recipe(norm=False))
    return folded, Quantise()(folded)


def test_a_graph_is_the_same_and_read_only_again() -> None:
    for graph in networks():
        copy = pickle.loads(pickle.dumps(graph))
        assert copy == graph and copy.types == graph.types
        with pytest.raises(TypeError):
            copy.tensors["x"] = np.zeros(1)
        with pytest.raises(ValueError, match="read-only"):
            next(iter(copy.tensors.values()))[...] = 0


def test_a_trace_with_its_record_is_the_same_and_read_only_again() -> None:
    graph = networks()[1]
    trace = run_reference(graph, pixels_for(graph, 2), record_spikes=True, record_states=True)
    copy = pickle.loads(pickle.dumps(trace))
    assert copy.activity == trace.activity
    np.testing.assert_array_equal(copy.logits, trace.logits)
    assert all((copy.spikes[name] == spikes).all() for name, spikes in trace.spikes.items())
    with pytest.raises(ValueError, match="read-only"):
        copy.activity.counts["synops"][...] = 0


def test_a_bundle_is_the_same(tmp_path: Path) -> None:
    graph, quantised = networks()
    save_bundle(graph, tmp_path / "b.stas", Provenance(source="here"), quantised=quantised)
    bundle = load_bundle(tmp_path / "b.stas")
    copy = pickle.loads(pickle.dumps(bundle))
    assert isinstance(copy, Bundle)
    assert (copy.graph, copy.quantised, copy.provenance) == (graph, quantised, bundle.provenance)


def test_a_process_pool_runs_a_graph() -> None:
    graph = networks()[1]
    pixels = pixels_for(graph, 2)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        theirs = pool.submit(run_reference, graph, pixels).result()
    assert theirs.activity == run_reference(graph, pixels).activity
