"""NIR files as plain nodes and edges; `nir_graph` gives them a meaning.

HDF5 is read by `nir_child`, in a process with a deadline: a damaged file can crash or occupy its library.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stas_neuro.documents import BadDocument, open_file, shown
from stas_neuro.errors import InputError
from stas_neuro.importers.nir_child import FILE_LIMIT, REFUSED, read_arrays
from stas_neuro.ir import Array

DEADLINE = 120.0
"""Seconds that reading a file may take."""
_ROOT = Path(__file__).parents[2]
_REMEDY = "use a file that nir.write wrote, of one network"


@dataclass(frozen=True)
class NirNode:
    """A node: the name of its NIR type, and its fields as arrays (texts of dtype U)."""

    kind: str
    fields: Mapping[str, Array]


@dataclass(frozen=True)
class NirNetwork:
    """Content of a file.

    Parameters
    ----------
    nodes : mapping of str to NirNode
    edges : tuple of (str, str)
        Names of two nodes each, in the order of the file.
    metadata : mapping of str to str
        Texts that a tool added to the network.
    """

    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, str]


def read_network(path: Path) -> NirNetwork:
    """Read a NIR file in a child process.

    Raises
    ------
    InputError
        When it is missing, is no NIR file, exceeds a limit of `nir_child`, or takes longer than `DEADLINE`.
    """
    try:
        open_file(path, FILE_LIMIT).close()  # says what is wrong without starting a process
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _REMEDY) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "use a readable file") from error
    command = [sys.executable, "-m", "stas_neuro.importers.nir_child", str(path.resolve())]
    try:
        # Its working directory comes first where it looks for modules: this package's, not the user's.
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False, timeout=DEADLINE)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: reading it takes more than {DEADLINE:g} s", _REMEDY) from error
    if done.returncode == REFUSED and done.stdout:
        what, remedy = json.loads(done.stdout)
        raise InputError(f"{path}: {what}", remedy)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise InputError(f"{path}: its reader ended with {how} ({shown(last, 200)})", _REMEDY)
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as members:
        arrays = {str(name): members[f"arr_{1 + index}"] for index, name in enumerate(members["arr_0"])}
    return _parsed(path, arrays)


def read_network_here(path: Path) -> NirNetwork:
    """As `read_network`, in this process: for tests with many files."""
    try:
        return _parsed(path, read_arrays(path))
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _REMEDY) from error


def _parsed(path: Path, arrays: Mapping[str, Array]) -> NirNetwork:
    """Group arrays by node."""
    try:
        kind = _text(arrays, "node/type")
        if kind != "NIRGraph":
            raise BadDocument(f"is {shown(kind)!r}, not NIRGraph", ("node/type",))
        fields: dict[str, dict[str, Array]] = {}
        metadata = {}
        for name, array in sorted(arrays.items(), key=lambda item: item[0]):
            match name.split("/"):
                case ["node", "nodes", node, field]:
                    fields.setdefault(node, {})[field] = array
                case ["node", "nodes", _, "metadata", *_]:
                    pass  # what a tool adds to a node says nothing of what the node computes
                case ["node", "nodes", node, *_]:
                    what = "is a network inside the network, which is not supported"
                    raise BadDocument(what, (f"node/nodes/{node}",))
                case ["node", "metadata", field] if array.dtype.kind == "U" and array.shape == ():
                    metadata[field] = str(array)
        nodes = {
            node: NirNode(_text(each, "type", f"node/nodes/{node}/"), each) for node, each in fields.items()
        }
        return NirNetwork(nodes, _edges(arrays, nodes), metadata)
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _REMEDY) from error


def _edges(arrays: Mapping[str, Array], nodes: Mapping[str, NirNode]) -> tuple[tuple[str, str], ...]:
    edges = arrays.get("node/edges")
    if edges is None or edges.dtype.kind != "U" or edges.ndim != 2 or edges.shape[1] != 2:
        raise BadDocument("is missing, or no list of pairs of names", ("node/edges",))
    pairs = tuple((str(source), str(target)) for source, target in edges)
    for name in {name for pair in pairs for name in pair} - nodes.keys():
        raise BadDocument(f"there is no node {shown(name)!r}", ("node/edges",))
    if len(set(pairs)) < len(pairs):
        raise BadDocument("has an edge twice", ("node/edges",))
    return pairs


def _text(arrays: Mapping[str, Array], name: str, place: str = "") -> str:
    array = arrays.get(name)
    if array is None or array.dtype.kind != "U" or array.shape != ():
        raise BadDocument("is missing, or no text", (place + name,))
    return str(array)
