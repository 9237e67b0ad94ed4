"""The files of activity records, also of counts that other programs have measured.

docs/activity.md documents activity.json and activity.parquet. Reading a file returns exactly the record that
was written. Here is the JSON, of which the Parquet file (`columns`) has all but the events.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stas_neuro.activity.origin import UNKNOWN, Origin
from stas_neuro.activity.record import (
    KINDS,
    MAPPED_KINDS,
    VISITS_LIMIT,
    Activity,
    Counts,
    Layer,
    Visits,
    Whole,
)
from stas_neuro.documents import shown
from stas_neuro.errors import InputError
from stas_neuro.files import check_version, parse_json, read_bytes, write_atomically
from stas_neuro.mapping import CoreLocation

FORMAT = "stas-neuro activity"
SCHEMA_VERSION = 1
PARQUET = ".parquet"
"""Ending of files in columns."""
_ADDED = frozenset({"cpu_operations", *MAPPED_KINDS})
"""Kinds added later: older files do not list them, and their counts are 0."""
_CELLS = 1 << 22
"""Largest number of counts per kind (images x layers x steps) of a file, or its size in bytes if larger."""
_REMEDY = "correct the file (schema: docs/activity.md)"


@dataclass(frozen=True, kw_only=True)
class _Event:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    layer: str
    step: str
    kind: str
    count: int | list[int]


@dataclass(frozen=True, kw_only=True)
class _Sum:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    layer: str
    step: str
    kind: str
    count: int


@dataclass(frozen=True, kw_only=True)
class _Visits:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    time_steps: int
    blocks: int
    tokens: int
    bits: str


@dataclass(frozen=True, kw_only=True)
class _WholeVisits:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    time_steps: int
    blocks: int
    tokens: int
    images: list[int]


@dataclass(frozen=True, kw_only=True)
class _Whole:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    images: int
    numbers: list[int]
    events: list[_Sum] = field(default_factory=list)
    visits: _WholeVisits | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    """An activity record as a document; counts of Parquet files are elsewhere."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    format: str
    schema_version: int
    images: int
    steps: list[str]
    kinds: list[str]
    layers: list[Layer]
    events: list[_Event]
    visits: _Visits | None
    cores: list[CoreLocation] = field(default_factory=list)
    late: int = 0
    origin: Origin = UNKNOWN
    whole: _Whole | None = None


def write_activity(activity: Activity, path: str | Path) -> None:
    """Write a record, atomically: as Parquet if the name ends in ``.parquet``, else as JSON."""
    path = Path(path)
    if path.suffix == PARQUET:
        from stas_neuro.activity.columns import write_columns

        write_columns(activity, path)
        return
    counted = [(kind, np.argwhere(activity.counts[kind].any(axis=0))) for kind in KINDS]
    rows: Iterator[dict[str, object]] = (
        {
            "layer": activity.layers[layer].name,
            "step": activity.steps[step],
            "kind": kind,
            "count": _count(activity.counts[kind][:, layer, step]),
        }
        for kind, places in counted
        for layer, step in places
    )
    head = document_of(activity)
    whole = activity.whole
    if whole is not None:
        head["whole"]["events"] = [
            {"layer": activity.layers[row].name, "step": activity.steps[step], "kind": kind, "count": count}
            for kind in KINDS
            for row, step in np.argwhere(whole.counts[kind])
            for count in [int(whole.counts[kind][row, step])]
        ]
    layers, visits = head.pop("layers"), head.pop("visits")
    # One line per layer and event, so that long files are readable and can be compared by line.
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(_array("layers", iter(layers)))
    lines.append(_array("events", rows))
    lines.append(f' "visits": {json.dumps(visits)}')
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def document_of(activity: Activity) -> dict[str, Any]:
    """Return a record as plain data, without its counts."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "images": activity.images,
        "steps": activity.steps,
        "kinds": KINDS,
        "cores": [asdict(site) for site in activity.cores],
        "late": activity.late,
        "origin": asdict(activity.origin),
        "layers": [asdict(layer) for layer in activity.layers],
        "visits": _visits(activity.visits),
    }
    if (whole := activity.whole) is not None:
        visits = None
        if whole.visits is not None:
            sizes = dict(zip(("time_steps", "blocks", "tokens"), whole.visits.shape, strict=True))
            visits = {**sizes, "images": whole.visits.ravel().tolist()}
        document["whole"] = {"images": whole.images, "numbers": whole.numbers.tolist(), "visits": visits}
    return document


def read_activity(path: Activity | str | Path) -> Activity:
    """Read a record from JSON, or from Parquet where the name ends in ``.parquet``, which needs pyarrow.

    An activity that was read already is returned.

    Raises
    ------
    InputError
        When the file is missing, has another format or a newer schema, or has an invalid field.
    """
    if isinstance(path, Activity):
        return path
    path = Path(path)
    if path.suffix == PARQUET:
        from stas_neuro.activity.columns import read_columns

        return read_columns(path)
    text = read_bytes(path)
    file = parse_document(text, str(path))
    try:
        return _record(file, len(text))
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error


def parse_document(text: bytes, where: str) -> File:
    """Read the JSON of a record; raises InputError, which begins with `where`, for any other text."""

    def check(document: dict[str, Any]) -> None:
        if document.get("format") != FORMAT:
            what = f"{where}: format is {shown(repr(document.get('format')))}"
            raise InputError(what, f"use a file of format '{FORMAT}'")
        check_version(document, SCHEMA_VERSION, where)

    return parse_json(File, text, where, _REMEDY, check)


def check_size(file: File, size: int) -> tuple[int, int, int]:
    """Return (images, layers, steps) of a file of `size` bytes; raises InputError for too many."""
    listed = sorted(_ADDED.union(file.kinds))
    absent = [kind for kind in KINDS if kind not in listed]
    if listed != sorted(KINDS) or len(set(file.kinds)) < len(file.kinds):
        what = f"kinds: missing {', '.join(absent)}" if absent else "kinds: unknown or repeated names"
        raise InputError(what, "list each kind once, including kinds with all counts 0")
    shape = (file.images, len(file.layers), len(file.steps))
    if file.images < 0:
        raise InputError(f"images: is {file.images}", "use at least 0")
    if file.images * max(shape[1] * shape[2], 1) > max(_CELLS, size):
        what = f"images: {file.images} images of {shape[1]} layers and {shape[2]} steps in {size} bytes"
        raise InputError(
            what, "use the number of images of the run, with one count per image, or fewer images"
        )
    return shape


def _record(file: File, size: int) -> Activity:
    """Make the record of a file that is `size` bytes long."""
    shape = check_size(file, size)
    counts: dict[str, Counts] = {}
    layer_of = {layer.name: index for index, layer in enumerate(file.layers)}
    step_of = {label: index for index, label in enumerate(file.steps)}
    known_events: set[tuple[str, str, str]] = set()
    for number, event in enumerate(file.events):
        where = f"events.{number}"
        for key, known in (("kind", KINDS), ("layer", layer_of), ("step", step_of)):
            if getattr(event, key) not in known:
                raise InputError(f"{where}.{key}: no {getattr(event, key)!r} in the file", _REMEDY)
        place = (event.kind, event.layer, event.step)
        if place in known_events:
            raise InputError(
                f"{where}: {' '.join(place)} occurs twice", "list each kind, layer and step once"
            )
        known_events.add(place)
        if isinstance(event.count, list) and len(event.count) != file.images:
            raise InputError(
                f"{where}.count: has {len(event.count)} numbers",
                f"use one number, or {file.images}, one per image",
            )
        if event.kind not in counts:
            counts[event.kind] = np.zeros(shape, dtype=np.int64)
        counts[event.kind][:, layer_of[event.layer], step_of[event.step]] = event.count
    for counted in counts.values():
        counted.setflags(write=False)  # so that the record takes them as they are
    return record_of(file, counts, None if file.whole is None else _sums(file.whole, layer_of, step_of))


def record_of(file: File, counts: dict[str, Counts], sums: dict[str, Counts] | None) -> Activity:
    """Make a record of a document, counts (images, layers, steps) and sums (layers, steps) of some kinds."""
    shape = (file.images, len(file.layers), len(file.steps))
    whole = None
    if file.whole is not None:
        whole = Whole(
            images=file.whole.images,
            numbers=np.array(file.whole.numbers, np.int64),
            counts=dict.fromkeys(KINDS, np.zeros(shape[1:], np.int64)) | (sums or {}),
            visits=None if file.whole.visits is None else _whole_visits(file.whole.visits),
        )
    return Activity(
        layers=tuple(file.layers),
        steps=tuple(file.steps),
        counts=dict.fromkeys(KINDS, np.broadcast_to(np.int64(0), shape)) | counts,
        visits=None if file.visits is None else _unpack(file.visits, file.images),
        cores=tuple(file.cores),
        late=file.late,
        origin=file.origin,
        whole=whole,
    )


def _sums(whole: _Whole, layer_of: dict[str, int], step_of: dict[str, int]) -> dict[str, Counts]:
    sums: dict[str, Counts] = {}
    for number, event in enumerate(whole.events):
        for key, known in (("kind", KINDS), ("layer", layer_of), ("step", step_of)):
            if getattr(event, key) not in known:
                raise InputError(
                    f"whole.events.{number}.{key}: no {getattr(event, key)!r} in the file", _REMEDY
                )
        if event.kind not in sums:
            sums[event.kind] = np.zeros((len(layer_of), len(step_of)), np.int64)
        sums[event.kind][layer_of[event.layer], step_of[event.step]] += event.count
    return sums


def _whole_visits(visits: _WholeVisits) -> Counts:
    shape = (visits.time_steps, visits.blocks, visits.tokens)
    if not 1 <= min(shape) <= max(shape) <= VISITS_LIMIT or len(visits.images) != np.prod(
        shape, dtype=object
    ):
        raise InputError(f"whole.visits: has {len(visits.images)} numbers for sizes {shape}", _REMEDY)
    return np.array(visits.images, np.int64).reshape(shape)


def _array(key: str, rows: Iterable[dict[str, object]]) -> str:
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)  # as text, numbers take less memory
    return f' "{key}": [\n{body}\n ]' if body else f' "{key}": []'


def _count(per_image: Counts) -> int | list[int]:
    numbers: list[int] = per_image.tolist()
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _visits(visits: Visits | None) -> dict[str, int | str] | None:
    if visits is None:
        return None
    _, time_steps, blocks, tokens = visits.shape
    bits = base64.b64encode(np.packbits(visits, bitorder="little").tobytes()).decode()
    return {"time_steps": time_steps, "blocks": blocks, "tokens": tokens, "bits": bits}


def _unpack(packed: _Visits, images: int) -> Visits:
    shape = (images, packed.time_steps, packed.blocks, packed.tokens)
    if not 1 <= min(shape[1:]) <= max(shape[1:]) <= VISITS_LIMIT:
        raise InputError(f"visits: sizes are {shape[1:]}", f"use 1 to {VISITS_LIMIT}")
    try:
        content = base64.b64decode(packed.bits, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"visits.bits: {error}", _REMEDY) from error
    size = int(np.prod(shape, dtype=object))
    if len(content) != -(-size // 8):
        raise InputError(f"visits.bits: has {len(content)} bytes", f"pack {size} bits, 8 per byte")
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=size, bitorder="little")
    return bits.reshape(shape).astype(np.bool_)
