"""Writes a folded graph as a NIR file (HDF5)."""

from __future__ import annotations

import io
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from stas_neuro.errors import InputError
from stas_neuro.exporters.nir.forms import FORMS, At, problems_of
from stas_neuro.exporters.nir.origin import KEY, Origin
from stas_neuro.extras import needs
from stas_neuro.files import Output
from stas_neuro.ir import Graph, Problem, Stage, op_of

DT = 1e-4
"""Seconds of a model step, unless told otherwise: what snnTorch and SpikingJelly take for granted."""
DT_LEAST, DT_MOST = 1e-9, 1e3
_MAGIC = b"\x89HDF\r\n\x1a\n"


def check_dt(dt: float) -> None:
    """Raise InputError unless a time step is a sensible number of seconds (or of a file's own unit)."""
    if not (math.isfinite(dt) and DT_LEAST <= dt <= DT_MOST):
        raise InputError(f"dt is {dt}", f"give the seconds of a step, {DT_LEAST:g} to {DT_MOST:g}")


def refusals(graph: Graph) -> list[Problem]:
    """Return a problem for each node that NIR cannot express, with place, reason and remedy."""
    if graph.stage == Stage.QUANTISED:
        what = "is an integer program: NIR describes neurons of real numbers"
        return [Problem("graph", what, "convert with --arithmetic float")]
    return problems_of(graph)


def nir_output(path: Path, *, force: bool) -> Output:
    """Return the file to write; `force` replaces a NIR file, and no other."""
    return Output(path=path, is_earlier=_is_nir, otherwise="is no NIR file", force=force)


def _is_nir(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:  # names of types are never compressed
        return stream.read(len(_MAGIC)) == _MAGIC and b"NIRGraph" in stream.read()


def write_nir(graph: Graph, path: Path, *, dt: float = DT, force: bool = False) -> None:
    """Write a folded graph without `refusals`.

    Parameters
    ----------
    graph : Graph
    path : Path
    dt : float
        Seconds of a model step: tau of a neuron is its time constant in steps times dt.
    force : bool
        Replace a NIR file.

    Raises
    ------
    InputError
        When `path` exists or cannot be written, dt is out of range, or the package nir is missing.
    """
    check_dt(dt)
    with needs("nir"):
        import nir
    stream = io.BytesIO()
    nir.write(stream, _network(graph, dt, nir))
    nir_output(path, force=force).write(stream.getvalue())


def _network(graph: Graph, dt: float, nir: Any) -> Any:
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    leaves: dict[str, str] = {}
    """The NIR node where the output of a node of the graph is found."""
    for node in graph.nodes:
        made = FORMS[op_of(node)].make(At(graph, node), nir, dt)
        sources = [leaves[edge.src] for edge in graph.inputs(node).values()]
        if not made:  # a readout: the edge goes on
            (leaves[node.name],) = sources
            continue
        names = list(made)
        edges += [(source, names[0]) for source in sources] + list(pairwise(names))
        leaves[node.name] = names[-1]
        nodes |= made
    metadata = {KEY: Origin.of(graph, dt).to_json()}
    # The check of nir 1.0.8 takes windows for square, and channels of a group for those of the map.
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata, type_check=False)
