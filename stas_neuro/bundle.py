"""Bundles: a graph on disk, as a directory or a .zip with the same files, without pickle.

`manifest.json` has the name of the format and the schema version, the SHA-256 of the other files and the
provenance; `graph.json` has the folded graph without its tensors; `tensors.safetensors` has its tensors as
"<node>/<param>". If the graph was quantised, `quantised.json` and `quantised.safetensors` are the same for
the integer program. If it was placed on cores, `mapping.json` has the mapping.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from stas_neuro import __version__
from stas_neuro.analysis import beside_cores
from stas_neuro.arrays import ZIP_DAMAGE, check_unpacked
from stas_neuro.choices import ARITHMETICS as ARITHMETICS
from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.documents import BadDocument, open_file, shown
from stas_neuro.errors import InputError, unknown
from stas_neuro.files import SIZE_LIMIT, Output, check_outputs, json_object, parse_json, read_bytes
from stas_neuro.graph_document import Document, graph_document, read_graph
from stas_neuro.ir import Array, Graph, IRError
from stas_neuro.kinds import PATH, refused
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.mapping import parse_mapping
from stas_neuro.mapping.check import check_mapping

FORMAT = "stas-neuro bundle"
SCHEMA_VERSION = 2
MANIFEST, GRAPH, TENSORS = "manifest.json", "graph.json", "tensors.safetensors"
QUANTISED, INTEGERS = "quantised.json", "quantised.safetensors"
MAPPING = "mapping.json"
FINE_TUNING = "fine-tuning"
"""Name of the entry of `Provenance.passes` that records a training of the graph."""
_FILES = (MANIFEST, GRAPH, TENSORS, QUANTISED, INTEGERS, MAPPING)

_RESTORE = "copy the bundle again, or compile it again"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a bundle.

    Parameters
    ----------
    source : str
        Model file or directory that it was compiled from.
    source_sha256 : mapping
        SHA-256 of each of its files by name.
    options : mapping
        Compile options by name; values are JSON values.
    passes : sequence of mapping
        Passes that ran, in order: the name of each under "pass", and those of its arguments that are strings
        or numbers.
    tool_version : str
        Version of stas-neuro that wrote it.
    created : str
        Time of creation, ISO 8601, UTC.
    """

    source: str
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    passes: tuple[Mapping[str, str | int | float | bool], ...] = ()
    tool_version: str = __version__
    created: str = field(default_factory=_now)

    @property
    def training(self) -> Mapping[str, str | int | float | bool] | None:
        """The record of fine-tuning, after which the weights are no longer those of `source`; else None."""
        return next((each for each in self.passes if each.get("pass") == FINE_TUNING), None)


@dataclass(frozen=True, repr=False)
class Bundle(Displayed):
    """Content of a bundle; `sha256` has the hashes of its files except the manifest, by name."""

    graph: Graph
    provenance: Provenance
    sha256: Mapping[str, str]
    quantised: Graph | None = None
    mapping: CoreMapping | None = None

    def _headline(self) -> str:
        program = ", with an integer program" if self.quantised is not None else ""
        placed = f", placed on {len(self.mapping.cores)} cores" if self.mapping is not None else ""
        return f"of {self.provenance.source or 'a model in memory'}: {self.graph!r}{program}{placed}"

    def _tables(self) -> Iterable[HtmlTable]:
        options = {name: value for name, value in self.provenance.options.items() if value is not None}
        rows = [
            ("source", self.provenance.source or "-"),
            ("made by", f"stas-neuro {self.provenance.tool_version}"),
        ]
        yield HtmlTable([*rows, ("created", self.provenance.created), *options.items()])
        yield from self.graph._tables()

    def of(self, arithmetic: str) -> Graph:
        """Return the network of one arithmetic, "float" or "fixed".

        Raises
        ------
        InputError
            When there is no such arithmetic, or the bundle was not quantised.
        """
        if arithmetic not in ARITHMETICS:
            raise unknown("arithmetic", arithmetic, ARITHMETICS)
        if arithmetic == "float":
            return self.graph
        if self.quantised is None:
            raise InputError("the bundle has no integer program", "compile it with --bits 8")
        return self.quantised


@dataclass(frozen=True)
class _Manifest:
    format: str
    schema_version: int
    sha256: dict[str, str]
    provenance: Provenance
    off_core: list[str] = field(default_factory=list)
    """Nodes of the integer program that are computed by a processor outside the cores."""


def save_bundle(
    graph: Graph | Bundle,
    path: Path | str,
    provenance: Provenance | None = None,
    *,
    quantised: Graph | None = None,
    mapping: CoreMapping | None = None,
    force: bool = False,
) -> None:
    """Write a bundle of a folded graph, with its integer program and its mapping, if any.

    The bundle is a zip if `path` ends with .zip, else a directory. It is written atomically; `force` replaces
    an existing bundle, but no other file. Of a `Bundle`, only `path` and `force` are given; a graph needs its
    provenance.

    Raises
    ------
    InputError
        When `path` exists, or cannot be written (a full disk).
    """
    if isinstance(graph, Bundle):
        if provenance is not None or quantised is not None or mapping is not None:
            raise InputError("a bundle has its own provenance, program and mapping", "leave them out")
        provenance, quantised, mapping = graph.provenance, graph.quantised, graph.mapping
        graph = graph.graph
    if not isinstance(graph, Graph):
        raise refused("graph", graph, "a Graph or a Bundle")
    if provenance is None:
        raise InputError("the graph has no provenance", "give a Provenance, or a Bundle, which has one")
    output = bundle_output(Path(path).resolve(), force=force)
    check_outputs([output])
    contents = {
        GRAPH: _to_json(graph_document(graph)),
        TENSORS: format_safetensors(dict(graph.tensors)),
    }
    if quantised is not None:
        contents[QUANTISED] = _to_json(graph_document(quantised))
        contents[INTEGERS] = format_safetensors(dict(quantised.tensors))
    if mapping is not None:
        contents[MAPPING] = mapping.to_json().encode()
    digests = {name: _sha256(content) for name, content in contents.items()}
    off_core = beside_cores(quantised) if quantised else []
    manifest = _Manifest(FORMAT, SCHEMA_VERSION, digests, provenance, off_core)
    contents[MANIFEST] = _to_json(dataclasses.asdict(manifest))
    if not output.is_directory:
        output.write(_zipped(contents))
        return
    with output.filled() as fresh:
        for name, content in contents.items():
            (fresh / name).write_bytes(content)


def is_bundle(path: Path | str) -> bool:
    """Return whether a path has the form of a bundle: a zip, or a directory with a manifest."""
    return Path(path).suffix == ".zip" or (Path(path) / MANIFEST).is_file()


def bundle_output(path: Path, *, force: bool) -> Output:
    """Return the output of a bundle, for `check_outputs`: a zip if `path` ends with .zip, or a directory."""
    return Output(
        path=path,
        is_earlier=_is_bundle,
        otherwise="is not a bundle of this form",
        force=force,
        is_directory=path.suffix != ".zip",
    )


def load_bundle(path: Bundle | Path | str) -> Bundle:
    """Read a bundle; one that was read already is returned.

    Raises
    ------
    InputError
        When it is missing, has a newer schema, is damaged (a file is missing, truncated or does not match its
        SHA-256), or its graph is invalid. The message names the file and the remedy.
    """
    if isinstance(path, Bundle):
        return path
    source = Path(PATH("path", path))
    contents = _read_directory(source) if source.is_dir() else _read_zip(source)
    version = _schema_version(source, contents)
    manifest = parse_json(_Manifest, contents[MANIFEST], f"{source / MANIFEST}", _RESTORE)
    # An integer program that is incomplete, or without a hash, is damage, too.
    integers = (QUANTISED, INTEGERS) if {QUANTISED, INTEGERS} & {*contents, *manifest.sha256} else ()
    placed = (MAPPING,) if MAPPING in {*contents, *manifest.sha256} else ()
    for name in (GRAPH, TENSORS, *integers, *placed):
        if name not in contents:
            raise InputError(f"{source} has no {name}", _RESTORE)
        if manifest.sha256.get(name) != _sha256(contents[name]):
            raise InputError(f"{source / name} does not match its SHA-256 in {MANIFEST}", _RESTORE)
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
    arrays = _tensors(source / tensors, contents[tensors])
    try:
        return read_graph(document, arrays)
    except IRError as e:
        raise InputError(f"{source / name}: invalid graph: {e.what}", e.remedy) from e
    except BadDocument as e:
        raise InputError(f"{source / name}: {e}", _RESTORE) from e


def _schema_version(source: Path, contents: Mapping[str, bytes]) -> int:
    """Return the schema version of a bundle, after checking that this version of stas-neuro supports it."""
    if MANIFEST not in contents:
        raise InputError(f"{source} has no {MANIFEST}", "use a bundle; a zip must have its files at the top")
    manifest = json_object(contents[MANIFEST], str(source / MANIFEST), _RESTORE)
    version = manifest.get("schema_version")
    if manifest.get("format") != FORMAT or type(version) is not int or version < 1:
        raise InputError(
            f"{source / MANIFEST} is not of a {FORMAT}", "use a directory or .zip written by compile"
        )
    if version > SCHEMA_VERSION:
        origin = manifest.get("provenance")
        needed = origin.get("tool_version") if isinstance(origin, dict) else None
        raise InputError(
            f"{source} has schema version {version}, the last that stas-neuro {__version__} supports is "
            f"{SCHEMA_VERSION}",
            f"install stas-neuro {needed} or newer"
            if isinstance(needed, str)
            else "install a newer stas-neuro",
        )
    return version


def _name_late_decisions(document: Document) -> Document:
    """Translate version 1, where an accumulator of raster order was `late` by 0, with no `lags`."""
    nodes = document.get("nodes")
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict) and node.get("type") in ("HaltAccumulate", "FixedHaltAccumulate"):
            if node.get("late", 0) == 0 and node.get("lags", []) == []:
                node.pop("late", None)
                node.pop("lags", None)
            else:
                node["type"] = node["type"].replace("Halt", "LateHalt")
    return document


_MIGRATIONS: Mapping[int, Callable[[Document], Document]] = {1: _name_late_decisions}
"""By schema version: what makes the graph document of the next one."""


def hash_network(graph: Graph) -> str:
    """Return the SHA-256 of a network with its weights, in hexadecimal digits.

    The schedule is left out: a graph and the result of `DelayDecisions` have the same hash.
    """
    return graph.derived("hash of the network", lambda: _hash_network(graph))


def _hash_network(graph: Graph) -> str:
    document = graph_document(graph)
    for node in document["nodes"]:
        node["type"] = node["type"].replace("LateHalt", "Halt")
        for name in ("late", "lags"):
            node.pop(name, None)
    return _sha256(_to_json(document) + format_safetensors(dict(graph.tensors)))


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
    """Return a zip of files; equal contents result in equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _read_zip(path: Path) -> dict[str, bytes]:
    if not path.exists():
        raise InputError(f"{path} does not exist", "use a directory or .zip written by compile")
    try:
        with open_file(path, SIZE_LIMIT) as stream, zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if info.filename in _FILES]
            for info in members:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                    raise BadDocument(f"{info.filename} is encrypted, or compressed by another method")
            if len({info.filename for info in members}) < len(members):
                raise BadDocument("has a file twice")
            check_unpacked(sum(info.file_size for info in members), path.stat().st_size)
            return {info.filename: archive.read(info) for info in members}
    except (BadDocument, *ZIP_DAMAGE) as e:
        raise InputError(f"{path} is not a readable zip file: {shown(str(e), 200)}", _RESTORE) from e


def _read_directory(path: Path) -> dict[str, bytes]:
    return {name: read_bytes(path / name) for name in _FILES if (path / name).exists()}


def _is_bundle(path: Path) -> bool:
    """Return whether a path is a bundle, in the form (directory or zip) that its name requires."""
    if path.is_dir() == (path.suffix == ".zip"):
        return False
    try:
        contents = _read_zip(path) if path.is_file() else _read_directory(path)
        return bool(json_object(contents[MANIFEST], str(path), _RESTORE).get("format") == FORMAT)
    except (InputError, KeyError):
        return False
