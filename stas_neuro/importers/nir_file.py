"""NIR files as plain nodes and edges; `nir_graph` gives them a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stas_neuro.documents import BadDocument, shown
from stas_neuro.errors import InputError
from stas_neuro.importers.hdf5_file import Format, read_hdf5, read_hdf5_here
from stas_neuro.ir import Array

NIR = Format("nir", "use a file that nir.write wrote, of one network")


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
    """Read a NIR file in a child process; raises InputError as `read_hdf5`, or when it is no NIR file."""
    return _parsed(path, read_hdf5(path, NIR))


def read_network_here(path: Path) -> NirNetwork:
    """As `read_network`, in this process: for tests with many files."""
    return _parsed(path, read_hdf5_here(path, NIR))


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
        raise InputError(f"{path}: {error}", NIR.remedy) from error


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
