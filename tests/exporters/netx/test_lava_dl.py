"""lava-dl reads the files that are written, and its own files are read: equal spikes on Lava."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lava_dl import in_process
from support.netx_graphs import inputs_for, netx_graph

from stas_neuro.exporters.netx.write import write_netx
from stas_neuro.importers.netx_graph import NetxOptions, import_netx
from stas_neuro.ir import FixedLIF, FixedSynapticCurrent, Graph, Phase
from stas_neuro.reference import run_reference

SEEDS = (1, 2, 4, 6, 7)
SLAYER_INPUT = (np.random.default_rng(3).random((12, 2, 6, 6)) < 0.4).astype(np.int64)


def given_to_lava(graph: Graph, image: Any, path: Path, steps: int) -> None:
    """Write an image in the axes of Lava, (W, H, C, T), with silence at the end."""
    if graph.input.phase == Phase.ONCE:
        np.savez(path, biases=image.transpose(2, 1, 0), steps=steps)
        return
    frames = np.zeros((steps, *image.shape[1:]), np.int64)
    frames[: len(image)] = image
    dense = frames.reshape(steps, -1).T if first_is_dense(graph) else frames.transpose(3, 2, 1, 0)
    np.savez(path, spikes=dense, steps=steps)


def first_is_dense(graph: Graph) -> bool:
    first = graph.nodes[1]
    return getattr(first, "kernel", None) == graph.input.shape[1:]


@pytest.fixture(scope="module")
def lava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all networks on Lava: those of `SEEDS`, and one of slayer. Gives the directory of what came out."""
    scratch = tmp_path_factory.mktemp("lava")
    files: list[Path] = []
    for name in (*SEEDS, "slayer"):
        path = scratch / f"{name}.net"
        files += [path, path.with_suffix(".npz"), path.with_suffix(".npy")]
        if name == "slayer":
            frames = np.pad(SLAYER_INPUT, ((0, 5), (0, 0), (0, 0), (0, 0)))
            np.savez(files[-2], spikes=frames.transpose(3, 2, 1, 0), steps=len(frames))
        else:
            graph = netx_graph(int(name))
            write_netx(graph, path)
            layers = len(graph.of_type(FixedLIF)) + 1
            given_to_lava(graph, inputs_for(graph, 1, int(name))[0], files[-2], graph.time_steps + layers)
    in_process(scratch / "slayer.net", files)
    return scratch


def spikes_of(lava: Path, name: object) -> Any:
    spikes = np.load(lava / f"{name}.npy")
    return spikes.reshape(-1, spikes.shape[-1]).T


@pytest.mark.parametrize("seed", SEEDS)
def test_lava_dl_runs_what_is_written_with_the_same_spikes(seed: int, lava: Path) -> None:
    graph, theirs = netx_graph(seed), spikes_of(lava, seed)
    lifs = graph.of_type(FixedLIF)
    trace = run_reference(graph, inputs_for(graph, 1, seed), record_spikes=True)
    if graph.nodes[-2].name == "head":
        assert not theirs.any()  # its neurons add up and never fire
        return
    ours = trace.spikes[lifs[-1].name][0].reshape(graph.time_steps, -1)
    late = len(lifs) - (
        graph.input.phase == Phase.ONCE
    )  # a step each but for input neurons, without synapses
    np.testing.assert_array_equal(theirs[late : late + graph.time_steps], ours)


def test_the_networks_fire() -> None:
    fired = [run_reference(netx_graph(seed), inputs_for(netx_graph(seed), 1, seed)).logits for seed in SEEDS]
    assert sum(logits.any() for logits in fired) >= len(SEEDS) / 2


def test_a_file_of_slayer_gives_the_spikes_that_lava_gives(lava: Path) -> None:
    options = NetxOptions(time_steps=len(SLAYER_INPUT), input_shape=SLAYER_INPUT.shape[1:])
    graph = import_netx(lava / "slayer.net", options).quantised
    currents = graph.of_type(FixedSynapticCurrent)
    assert len(currents) == 4 and currents[0].bias and not currents[1].bias
    ours = run_reference(graph, SLAYER_INPUT[None], record_spikes=True).spikes["layer4.neuron"][0, :, 0]
    assert ours.any() and not ours.all()
    np.testing.assert_array_equal(spikes_of(lava, "slayer")[4 : 4 + len(ours)], ours)
