"""A package that adds a backend, an importer, a target and a chip to stas-neuro."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro.backends import RunOptions
from stas_neuro.bundle import Bundle
from stas_neuro.files import Output
from stas_neuro.importers import Imported, ImportOptions
from stas_neuro.ir import LIF, Graph, Problem
from stas_neuro.ir.text import parse_graph
from stas_neuro.passes import Pass
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace


class Backwards:
    """Runs the images in reverse order, one at a time, and puts the results in theirs."""

    summary = "the reference, the last image first"
    processes = "own"

    def prepare(self) -> Sequence[Pass]:
        return ()

    def check(self, network: Graph) -> None:
        pass

    def run(self, network: Graph, data: Any, options: RunOptions) -> Trace:
        traces = [run_reference(network, image[None]) for image in data[::-1]]
        return Trace.concatenate(traces[::-1])


class LayerList:
    """The names of all spiking layers as JSON; has no word for more than two blocks."""

    summary = "the names of all spiking layers"

    def output(self, path: Path, *, force: bool) -> Output:
        return Output(path=path, is_earlier=lambda found: True, otherwise="is no list", force=force)

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        scopes = {node.scope for node in bundle.of(arithmetic).of_type(LIF)}
        return [
            Problem(scope, "is one block too many", "use a network of one block")
            for scope in sorted(scopes)
            if scope.startswith("block") and scope != "block0"
        ]

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        names = [node.name for node in bundle.of(arithmetic).of_type(LIF)]
        self.output(path, force=force).write(json.dumps(names).encode())


class GraphText:
    """Reads the text form of a graph, with tensors of an .npz beside it."""

    summary = "a graph as text"

    def accepts(self, source: object) -> bool:
        return isinstance(source, str | Path) and str(source).endswith(".ir")

    def read(self, source: Any, options: ImportOptions) -> Imported:
        tensors = np.load(Path(source).with_suffix(".npz"))
        return Imported(parse_graph(Path(source).read_text(), tensors), ("not compared with anything",))


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no licence")
