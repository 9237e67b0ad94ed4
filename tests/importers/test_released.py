"""Released weights, in modules as they were released: spikes and logits are those that were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.foreign_networks import Spikformer, Spikingformer

import stas_neuro
from stas_neuro.ir import LIF, Graph, SpikeMatMul, SpikeMaxPool, Tokens
from stas_neuro.reference import run_reference

FILES = Path(__file__).parent / "released"
CLASSES = {"spikformer_cifar_tiny": Spikformer, "spikingformer_cifar_tiny": Spikingformer}


@pytest.fixture(scope="module", params=CLASSES)
def released(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    module = CLASSES[request.param](dim=32, heads=4, depth=2).eval()
    module.load_state_dict(torch.load(FILES / f"{request.param}.pth", weights_only=True))
    example = np.load(FILES / f"{request.param}.npz")["input"]
    graph = stas_neuro.open_model(module, example=example)
    assert isinstance(graph, Graph)
    return request.param, graph


def test_spikes_and_logits_are_those_of_the_released_class(released: tuple[str, Graph]) -> None:
    name, graph = released
    recorded = np.load(FILES / f"{name}.npz")
    shapes = json.loads((FILES / f"{name}.json").read_text())["spike_shapes"]
    trace = run_reference(graph, recorded["input"].astype(np.float64), record_spikes=True, count=False)
    np.testing.assert_allclose(trace.logits, recorded["logits_float64"], rtol=0, atol=1e-9)
    assert trace.spikes.keys() == shapes.keys()
    for path, shape in shapes.items():
        bits = np.unpackbits(recorded[f"spikes/{path}"], count=int(np.prod(shape))).reshape(shape)
        theirs = bits.swapaxes(0, 1)  # (B, T, ...)
        if name.startswith("spikingformer") and path.startswith("block."):  # channels first: ours are tokens
            theirs = theirs.reshape(*theirs.shape[:3], -1).swapaxes(2, 3)
        np.testing.assert_array_equal(trace.spikes[path], theirs, err_msg=path)


def test_blocks_hold_tokens_and_are_found(released: tuple[str, Graph]) -> None:
    _, graph = released
    assert (graph.blocks, graph.time_steps, graph.tokens) == (2, 4, 64)
    assert [node.scope for node in graph.of_type(SpikeMatMul)] == ["block0", "block1"]
    assert {node.heads for node in graph.of_type(SpikeMatMul)} == {4}
    assert len(graph.of_type(Tokens)) == 1  # where the stem ends
    assert len(graph.of_type(SpikeMaxPool)) == 2
    assert {node.scope for node in graph.of_type(LIF)} == {"stem", "block0", "block1"}
    assert graph.of_type(LIF)[0].name.startswith("patch_embed.")
