"""Bundles: a graph on disk, as a directory or a .zip of the same three files. Never pickle.

`manifest.json` has the format's name and schema version, the SHA-256 of the other files and the provenance;
`graph.json` the folded graph without its tensors; `tensors.safetensors` its tensors as "<node>/<param>".
Where it was quantised, `quantised.json` and `quantised.safetensors` are the same of the integer program.
Where it was placed on cores, `mapping.json` says how.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from stas_neuro import __version__
from stas_neuro.arrays import ZIP_DAMAGE, check_unpacked
from stas_neuro.choices import ARITHMETICS as ARITHMETICS
from stas_neuro.documents import BadDocument, open_file, shown
from stas_neuro.errors import InputError
from stas_neuro.files import SIZE_LIMIT, Output, check_outputs, json_object, parse_json, read_bytes
from stas_neuro.ir import (
    NODE_TYPES,
    Array,
    Edge,
    Graph,
    IRError,
    Node,
    Phase,
    Preprocessing,
    Stage,
)
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.mapping import parse_mapping
from stas_neuro.mapping.neurons import check_mapping

FORMAT = "stas-neuro bundle"
SCHEMA_VERSION = 1
MANIFEST, GRAPH, TENSORS = "manifest.json", "graph.json", "tensors.safetensors"
QUANTISED, INTEGERS = "quantised.json", "quantised.safetensors"
MAPPING = "mapping.json"
_FILES = (MANIFEST, GRAPH, TENSORS, QUANTISED, INTEGERS, MAPPING)

Document = dict[str, Any]
_MIGRATIONS: dict[int, Callable[[Document], Document]] = {}
"""By schema version: what makes the graph document of the next one. Version 1 is the first."""
_RESTORE = "copy the bundle again or compile it anew"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a bundle comes from.

    Parameters
    ----------
    source : str
        The model file or directory it was compiled from.
    source_sha256 : mapping
        SHA-256 of each of its files by name.
    options : mapping
        Compile options by name; values as JSON has them.
    passes : sequence of mapping
        Passes that ran, in order: the name of each under "pass", and its arguments that are words or numbers.
    tool_version : str
        Version of stas-neuro that wrote it.
    created : str
        ISO 8601, UTC.
    """

    source: str
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    passes: tuple[Mapping[str, str | int | float | bool], ...] = ()
    tool_version: str = __version__
    created: str = field(default_factory=_now)


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds; `sha256` is that of its other files but the manifest, by name."""

    graph: Graph
    provenance: Provenance
    sha256: Mapping[str, str]
    quantised: Graph | None = None
    mapping: CoreMapping | None = None

    def of(self, arithmetic: str) -> Graph:
        """Give the network of one arithmetic, "float" or "fixed".

        Raises
        ------
        InputError
            When there is no such arithmetic, or the bundle was not quantised.
        """
        if arithmetic not in ARITHMETICS:
            raise InputError(f"no arithmetic is {arithmetic!r}", f"use one of {', '.join(ARITHMETICS)}")
        if arithmetic == "float":
            return self.graph
        if self.quantised is None:
            raise InputError("the bundle holds no integer program", "compile it with --bits 8")
        return self.quantised


@dataclass(frozen=True)
class _Manifest:
    format: str
    schema_version: int
    sha256: dict[str, str]
    provenance: Provenance
    off_core: list[str] = field(default_factory=list)
    """Nodes of the integer program that a processor beside the cores computes."""


def save_bundle(
    graph: Graph,
    path: Path | str,
    provenance: Provenance,
    *,
    quantised: Graph | None = None,
    mapping: CoreMapping | None = None,
    force: bool = False,
) -> None:
    """Write a bundle of a folded graph, what it was quantised to and where that is placed.

    It is a zip where `path` ends with .zip, else a directory.

    It appears at `path` whole or not at all; `force` replaces another bundle there, and nothing else.

    Raises
    ------
    InputError
        When something is at `path` already, it cannot be written, or writing fails (a full disk).
    """
    output = bundle_output(Path(path).resolve(), force=force)
    check_outputs([output])
    contents = {
        GRAPH: _to_json(_graph_document(graph)),
        TENSORS: format_safetensors(dict(graph.tensors)),
    }
    if quantised is not None:
        contents[QUANTISED] = _to_json(_graph_document(quantised))
        contents[INTEGERS] = format_safetensors(dict(quantised.tensors))
    if mapping is not None:
        contents[MAPPING] = mapping.to_json().encode()
    digests = {name: _sha256(content) for name, content in contents.items()}
    beside = [node.name for node in quantised.nodes if node.off_core] if quantised else []
    manifest = _Manifest(FORMAT, SCHEMA_VERSION, digests, provenance, beside)
    contents[MANIFEST] = _to_json(dataclasses.asdict(manifest))
    if not output.is_directory:
        output.write(_zipped(contents))
        return
    with output.filled() as fresh:
        for name, content in contents.items():
            (fresh / name).write_bytes(content)


def bundle_output(path: Path, *, force: bool) -> Output:
    """Give the place of a bundle, for `check_outputs`: a zip where it ends with .zip, else a directory."""
    return Output(
        path=path,
        is_earlier=_is_bundle,
        otherwise="is no such bundle",
        force=force,
        is_directory=path.suffix != ".zip",
    )


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        When it is missing, of a newer schema, damaged (a file is missing, truncated or not what its SHA-256
        says), or its graph is invalid; names the file and what to do.
    """
    source = Path(path)
    contents = _read_directory(source) if source.is_dir() else _read_zip(source)
    version = _schema_version(source, contents)
    manifest = parse_json(_Manifest, contents[MANIFEST], f"{source / MANIFEST}", _RESTORE)
    # A part of an integer program without the rest, or without a hash, is damage too.
    integers = (QUANTISED, INTEGERS) if {QUANTISED, INTEGERS} & {*contents, *manifest.sha256} else ()
    placed = (MAPPING,) if MAPPING in {*contents, *manifest.sha256} else ()
    for name in (GRAPH, TENSORS, *integers, *placed):
        if name not in contents:
            raise InputError(f"{source} has no {name}", _RESTORE)
        if manifest.sha256.get(name) != _sha256(contents[name]):
            raise InputError(f"{source / name} is not what its SHA-256 in {MANIFEST} says", _RESTORE)
    graphs = [
        _load_graph(source, contents, version, *names)
        for names in ((GRAPH, TENSORS), (QUANTISED, INTEGERS))
        if names[0] in contents
    ]
    mapping = None
    if placed:
        mapping = parse_mapping(contents[MAPPING], str(source / MAPPING))
        try:
            check_mapping(graphs[-1], mapping)
        except InputError as error:
            raise InputError(f"{source / MAPPING}: {error.what}", error.remedy) from error
    return Bundle(
        graphs[0], manifest.provenance, manifest.sha256, graphs[1] if len(graphs) > 1 else None, mapping
    )


def _load_graph(source: Path, contents: Mapping[str, bytes], version: int, name: str, tensors: str) -> Graph:
    document = json_object(contents[name], str(source / name), _RESTORE)
    for older in range(version, SCHEMA_VERSION):
        document = _MIGRATIONS[older](document)
    return _graph(source / name, document, _tensors(source / tensors, contents[tensors]))


def _schema_version(source: Path, contents: Mapping[str, bytes]) -> int:
    """Check that the manifest is of a bundle that can be read, before its other fields are looked at."""
    if MANIFEST not in contents:
        raise InputError(f"{source} has no {MANIFEST}", "give a bundle; a zip has the files at its top")
    manifest = json_object(contents[MANIFEST], str(source / MANIFEST), _RESTORE)
    version = manifest.get("schema_version")
    if manifest.get("format") != FORMAT or type(version) is not int or version < 1:
        raise InputError(
            f"{source / MANIFEST} is not of a {FORMAT}", "give a directory or .zip that compile wrote"
        )
    if version > SCHEMA_VERSION:
        origin = manifest.get("provenance")
        needed = origin.get("tool_version") if isinstance(origin, dict) else None
        raise InputError(
            f"{source} has schema version {version}, stas-neuro {__version__} reads up to {SCHEMA_VERSION}",
            f"install stas-neuro {needed} or newer"
            if isinstance(needed, str)
            else "install a newer stas-neuro",
        )
    return version


def hash_network(graph: Graph) -> str:
    """Give the SHA-256 of a network and its weights, in hexadecimal digits.

    A graph and what `DelayDecisions` makes of it have the same: the schedule is left out.
    """
    document = _graph_document(graph)
    for node in document["nodes"]:
        for name in ("late", "lags"):
            node.pop(name, None)
    return _sha256(_to_json(document) + format_safetensors(dict(graph.tensors)))


# The graph document -------------------------------------------------------------------------------------


def _graph_document(graph: Graph) -> Document:
    return {
        "stage": graph.stage,
        "time_steps": graph.time_steps,
        "classes": graph.classes,
        "preprocessing": dataclasses.asdict(graph.preprocessing),
        "nodes": [{"type": type(node).__name__} | dataclasses.asdict(node) for node in graph.nodes],
        "edges": [dataclasses.asdict(edge) for edge in graph.edges],
    }


def _graph(source: Path, document: Document, tensors: Mapping[str, Array]) -> Graph:
    try:
        fields = {
            "stage": Stage(document.pop("stage")),
            "time_steps": document.pop("time_steps"),
            "classes": tuple(_list(document.pop("classes"), "classes")),
            "preprocessing": Preprocessing(**_with_tuples(document.pop("preprocessing"))),
            "nodes": tuple(_node(node) for node in _list(document.pop("nodes"), "nodes")),
            "edges": tuple(Edge(**edge) for edge in _list(document.pop("edges"), "edges")),
        }
        if document:
            raise ValueError(f"unknown fields {', '.join(document)}")
        return Graph(**fields, tensors=tensors)
    except IRError as e:
        raise InputError(f"{source}: invalid graph: {e.what}", e.remedy) from e
    except KeyError as e:
        raise InputError(f"{source}: has no {shown(str(e))}", _RESTORE) from e
    except (TypeError, ValueError, AttributeError) as e:
        raise InputError(f"{source}: {shown(str(e), 200)}", _RESTORE) from e


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is no list")
    return value


def _node(fields: Document) -> Node:
    attributes = _with_tuples(fields)
    cls = NODE_TYPES.get(attributes.pop("type"))
    if cls is None:
        raise ValueError(f"there is no node type {fields['type']!r}")
    return cls(**attributes | {"phase": Phase(attributes["phase"])})


def _with_tuples(fields: Document) -> Document:
    """JSON has lists where the dataclasses have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _tensors(source: Path, content: bytes) -> dict[str, Array]:
    try:
        return dict(parse_safetensors(content))
    except (SafetensorError, ValueError, KeyError) as e:
        raise InputError(f"{source}: {shown(str(e), 200)}", _RESTORE) from e


# Files --------------------------------------------------------------------------------------------------


def _to_json(document: Document) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """Zip files so that equal contents give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _read_zip(path: Path) -> dict[str, bytes]:
    if not path.exists():
        raise InputError(f"{path} does not exist", "give a directory or .zip that compile wrote")
    try:
        with open_file(path, SIZE_LIMIT) as stream, zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if info.filename in _FILES]
            for info in members:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                    raise BadDocument(f"{info.filename} is encrypted, or compressed as no bundle is")
            if len({info.filename for info in members}) < len(members):
                raise BadDocument("holds a file twice")
            check_unpacked(sum(info.file_size for info in members), path.stat().st_size)
            return {info.filename: archive.read(info) for info in members}
    except (BadDocument, *ZIP_DAMAGE) as e:
        raise InputError(f"{path} is no readable zip file: {shown(str(e), 200)}", _RESTORE) from e


def _read_directory(path: Path) -> dict[str, bytes]:
    return {name: read_bytes(path / name) for name in _FILES if (path / name).exists()}


def _is_bundle(path: Path) -> bool:
    """Tell whether a bundle is at a path, in the form that the path asks for."""
    if path.is_dir() == (path.suffix == ".zip"):
        return False
    try:
        contents = _read_zip(path) if path.is_file() else _read_directory(path)
        return bool(json_object(contents[MANIFEST], str(path), _RESTORE).get("format") == FORMAT)
    except (InputError, KeyError):
        return False
