"""NIR files, of ours and of others: read in this process, as the child does it, and made graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np
from support.nir_graphs import small_graph

from fuzz.files import Files
from fuzz.target import Target
from stas_neuro.exporters.nir.write import write_nir
from stas_neuro.importers.nir_file import read_network_here
from stas_neuro.importers.nir_graph import NirOptions, graph_of

NAME = "network.nir"


def _foreign(path: Path) -> None:
    """Write a network of another program, with pooling, groups and a flattened map."""
    sizes: dict[str, Any] = dict.fromkeys(("kernel_size", "stride"), np.array([2, 2]))
    maps, three = np.ones((2, 4, 4), np.float32), np.ones(3, np.float32)
    nir.write(
        path,
        nir.NIRGraph.from_list(
            nir.Input(input_type={"input": np.array([2, 4, 4])}),
            nir.Conv2d((4, 4), np.ones((2, 1, 3, 3)), 1, 1, 1, 2, np.ones(2)),
            nir.LIF(tau=maps, r=maps, v_leak=0 * maps, v_threshold=maps),
            nir.SumPool2d(**sizes, padding=np.array([0, 0])),
            nir.Flatten(input_type={"input": np.array([2, 2, 2])}, start_dim=0, end_dim=-1),
            nir.Affine(weight=np.ones((3, 8)), bias=three),
            nir.LIF(tau=2 * three, r=three, v_leak=0 * three, v_threshold=three),
            nir.Output(output_type={"output": np.array([3])}),
            type_check=False,  # nir takes the channels of a group for those of the map
        ),
    )


def make_seeds() -> Sequence[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        ours, others = Path(scratch) / "ours.nir", Path(scratch) / "others.nir"
        write_nir(small_graph(), ours)
        _foreign(others)
        return [{NAME: path.read_bytes()} for path in (ours, others)]


def read(inputs: Path, output: Path) -> None:
    network = read_network_here(inputs / NAME)
    graph_of(network, NirOptions(dt=None if network.metadata else 1.0, time_steps=2))


TARGET = Target("nir", make_seeds, read)
