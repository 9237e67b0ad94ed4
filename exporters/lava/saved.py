"""The network of a package for Lava, on disk: its graph as JSON, its tensors as npz. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from stas_neuro.arrays import read_npz
from stas_neuro.documents import BadDocument, open_file, parse_json, reason, shown
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.runnable import check_size, check_stage
from stas_neuro.graph_document import Document, graph_document, read_graph
from stas_neuro.ir import Graph

T = TypeVar("T")

FORMAT = "stas-neuro lava network"
SCHEMA_VERSION = 3
"""Versions 1 and 2 were no graphs."""
NETWORK_FILE = "network.json"
TENSORS_FILE = "weights.npz"
LARGEST_FILE = 1 << 23
"""Bytes of a network.json that is read; a node takes 500."""
_REMEDY = "export the network again"


def save_network(graph: Graph, directory: Path) -> None:
    """Write network.json and weights.npz of a folded or quantised graph into a directory."""
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "graph": graph_document(graph)}
    (directory / NETWORK_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    np.savez(directory / TENSORS_FILE, **graph.tensors)  # type: ignore[arg-type]


def load_network(directory: Path) -> Graph:
    """Read what `save_network` wrote.

    Raises
    ------
    InputError
        When a file is missing, damaged, of another format or too large, the graph breaks a rule of the IR, or
        Lava cannot run it; names the file and the place.
    """
    path = directory / NETWORK_FILE
    document = _read(path, _read_document)
    tensors = _read(directory / TENSORS_FILE, read_npz)
    try:
        graph = read_graph(document, tensors)
        check_stage(graph)
        check_size(graph)
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _REMEDY) from error
    except InputError as error:
        raise InputError(f"{directory}: {error}", _REMEDY) from error
    return graph


def _read(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, BadDocument) as error:
        raise InputError(f"{path}: {reason(error)}", _REMEDY) from error


def _read_document(path: Path) -> object:
    """Give the document of the graph in network.json."""
    with open_file(path, LARGEST_FILE) as stream:
        document = parse_json(stream.read())
    given: Document = document if isinstance(document, dict) else {}
    found = [given.get(key) for key in ("format", "schema_version")]
    if found != [FORMAT, SCHEMA_VERSION]:
        words = " version ".join(shown(repr(part)) for part in found)
        what = f"{path}: is {words}, this program reads version {SCHEMA_VERSION}"
        raise InputError(what, f"{_REMEDY} with a stas-neuro of the same age")
    return given.get("graph")
