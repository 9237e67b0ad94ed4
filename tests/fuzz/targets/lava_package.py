"""Packages for Lava and the images they are run on, as their run.py reads them; some of them are run, too."""

from __future__ import annotations

import io
import json
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from support.ir_random import Recipe, build

from fuzz.files import Files, read_files
from fuzz.mutators import mutate_tree
from fuzz.target import Target
from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.saved import NETWORK_FILE, load_network, save_network
from stas_neuro.exporters.lava.standalone import _prepared, _read
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions, Quantise

RUN_EVERY = 8
"""Of so many networks that can be run, one is."""
SMALL = Recipe(norm=False, blocks=1, time_steps=2, head_dim=2, height=3, width=3)


def files_of(graph: Graph) -> Files:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    images = rng.integers(0, 256, (1, *graph.image_shape), np.uint8)
    np.savez(stream, images=images, labels=np.zeros(1, np.int64))
    with tempfile.TemporaryDirectory() as directory:
        save_network(graph, Path(directory))
        return {**read_files(Path(directory)), "images.npz": stream.getvalue()}


def make_seeds() -> Sequence[Files]:
    graphs = [
        build(replace(SMALL, stem="learned", halting="rectangular", membrane=True)),
        build(replace(SMALL, stem="sps", events=True, halting="time", readout="last-state", sdsa=True)),
        Quantise()(DelayDecisions(2)(build(replace(SMALL, blocks=2)))),
        Quantise(encoding="bias")(build(replace(SMALL, stem="late-mean", halting="block", readout="rate"))),
    ]
    run_network(graphs[0], np.zeros((1, *graphs[0].image_shape)))  # networkx compiles code when first called
    return [files_of(graph) for graph in graphs]


def mend(files: Files, rng: Random) -> Files:
    """Half of the time change nodes and edges of a whole package instead: most others are refused early."""
    if rng.random() < 0.5:
        return files
    files = rng.choice(TARGET.seeds)
    document = json.loads(files[NETWORK_FILE])  # type: ignore[arg-type]
    for _ in range(rng.choice((1, 1, 2))):
        inner = document["graph"][rng.choice(("nodes", "nodes", "edges"))]
        place = rng.randrange(len(inner))
        inner[place] = mutate_tree(inner[place], rng)[0]
    return {**files, NETWORK_FILE: json.dumps(document).encode()}


def read(inputs: Path, output: Path) -> None:
    network = load_network(inputs)
    data = _read(inputs / "images.npz", 1, network.classes)
    prepared = _prepared(network, data.images)
    if zlib.crc32((inputs / NETWORK_FILE).read_bytes()) % RUN_EVERY == 0:
        run_network(network, prepared)


TARGET = Target("lava_package", make_seeds, read, mend=mend)
