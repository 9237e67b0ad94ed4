"""netx files, of ours and of lava-dl: read in this process, as the child does it, and made graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from support.netx_graphs import netx_graph

from fuzz.files import Files
from fuzz.target import Target
from stas_neuro.exporters.netx.origin import KEY
from stas_neuro.exporters.netx.write import write_netx
from stas_neuro.importers.netx_file import read_netx_here
from stas_neuro.importers.netx_graph import NetxOptions, graphs_of

NAME = "network.net"


def _foreign(path: Path) -> None:
    """Write a file without what stas-neuro adds, with weights as lava-dl writes them."""
    write_netx(netx_graph(1), path)
    with h5py.File(path, "a") as file:
        del file[KEY]
        for layer in file["layer"].values():
            if "weight" in layer:
                weight = layer["weight"][()].astype(np.float32)
                del layer["weight"]
                layer.create_dataset("weight", data=weight)


def make_seeds() -> Sequence[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        ours, others = Path(scratch) / "ours.net", Path(scratch) / "others.net"
        write_netx(netx_graph(0), ours)
        _foreign(others)
        return [{NAME: path.read_bytes()} for path in (ours, others)]


def read(inputs: Path, output: Path) -> None:
    network = read_netx_here(inputs / NAME)
    graphs_of(network, NetxOptions(time_steps=None if network.origin else 3))


TARGET = Target("netx", make_seeds, read)
