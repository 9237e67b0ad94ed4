"""What is kept of a run while it runs, in its directory, so that `run --resume` can continue it.

`PARTS/` has ``key.json`` (what was run), ``layout.json`` (a record without images, with the layers), and for
the images of each part ``<first>-<end>.npz``, all numbers of images.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import KINDS, Part, read_activity, write_activity
from stas_neuro.arrays import read_npz
from stas_neuro.documents import BadDocument, reason
from stas_neuro.errors import InputError
from stas_neuro.files import json_object, read_bytes, write_atomically
from stas_neuro.trace import TraceCollector, TracePart

PARTS = "parts"
"""Directory of an unfinished run inside that of the run."""
_KEY, _LAYOUT = "key.json", "layout.json"
_NAME = re.compile(r"(\d{1,12})-(\d{1,12})\.npz", re.ASCII)
INTERVAL_S, INTERVAL_SHARE = 1.0, 1e-3
"""Least time between two parts: in seconds, and as a share of the time since the start."""
_REMEDY = "start the run again, with --force"


def is_unfinished(directory: Path) -> bool:
    """Tell whether a directory has a run that was interrupted."""
    try:
        return (directory / PARTS / _KEY).is_file()
    except OSError:  # such as a name that is too long
        return False


class UnfinishedRun:
    """Keeps the parts of a run in a directory.

    Parameters
    ----------
    directory : Path
        Directory of the run.
    key : mapping of str to plain data
        What is run: a run can only be continued with the same.
    resume : bool
        Whether to continue what is there; else it is removed.

    Raises
    ------
    InputError
        If there is no run to continue, or one of something else.
    """

    def __init__(self, directory: Path, key: Mapping[str, Any], *, resume: bool) -> None:
        self.directory = directory / PARTS
        self._waiting: list[TracePart] = []
        self._begun = self._saved = time.monotonic()
        self._collector: TraceCollector | None = None
        self._first = 0
        self._key, self._begin = key, not resume
        if resume:
            self._check(key)

    def _check(self, key: Mapping[str, Any]) -> None:
        path = self.directory / _KEY
        if not path.is_file():
            raise InputError(f"{self.directory.parent}: has no unfinished run", "start it without --resume")
        known = json_object(read_bytes(path), str(path), _REMEDY)
        for name, value in key.items():
            if known.get(name) != value:
                what = f"{self.directory.parent}: was begun with {name} {known.get(name)}, not {value}"
                raise InputError(what, f"resume with the same, or {_REMEDY}")

    def known(self, collector: TraceCollector) -> Iterator[TracePart]:
        """Return the parts that were kept, as far as they follow each other."""
        self._collector = collector
        if self._begin:
            return
        parts = sorted(self._parts(), reverse=True)
        while parts:
            first, end, path = parts.pop()
            if first != collector.done:
                path.unlink()  # of before an interruption, overlapping others
                continue
            if collector.activity.layout is None:
                collector.activity.layout = read_activity(self.directory / _LAYOUT)
            yield self._read(path, end - first)
        self._first = collector.done

    def _parts(self) -> Iterator[tuple[int, int, Path]]:
        for path in self.directory.iterdir():
            if (match := _NAME.fullmatch(path.name)) is not None:
                yield int(match[1]), int(match[2]), path

    def add(self, part: TracePart) -> None:
        """Keep a part, with those before it, once enough time has passed."""
        self._waiting.append(part)
        now = time.monotonic()
        if now - self._saved >= max(INTERVAL_S, INTERVAL_SHARE * (now - self._begun)):
            self.save()

    def save(self) -> None:
        """Write the parts that are not written yet."""
        if not self._waiting or self._collector is None:
            return
        if self._begin:  # only now: a run that ends at once, or with an error, leaves nothing
            shutil.rmtree(self.directory, ignore_errors=True)
            write_atomically(self.directory / _KEY, (json.dumps(self._key, indent=1) + "\n").encode())
            self._begin = False
        layout = self._collector.activity.layout
        if layout is not None and not (self.directory / _LAYOUT).is_file():
            write_activity(layout, self.directory / _LAYOUT)
        part = _joined(self._waiting)
        images = len(part.arrays["", "logits"])
        stream = BytesIO()
        arrays: dict[str, Any] = _arrays(part)
        np.savez_compressed(stream, **arrays)
        name = f"{self._first:08}-{self._first + images:08}.npz"
        write_atomically(self.directory / name, stream.getvalue())
        self._waiting, self._first, self._saved = [], self._first + images, time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether anything is kept."""
        return not self._begin

    def _read(self, path: Path, images: int) -> TracePart:
        try:
            arrays = read_npz(path)
        except (OSError, BadDocument) as error:
            raise InputError(f"{path}: {reason(error)}", _REMEDY) from error
        try:
            return _part(arrays, images)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: is no part of a run ({reason(error)})", _REMEDY) from error


def _joined(parts: Sequence[TracePart]) -> TracePart:
    """Join parts that follow each other."""
    counted = [part.counted for part in parts if part.counted is not None]
    return TracePart(
        arrays={key: np.concatenate([part.arrays[key] for part in parts]) for key in parts[0].arrays},
        counted=Part.joined(counted) if counted else None,
    )


def _arrays(part: TracePart) -> dict[str, NDArray[Any]]:
    """Return a part as arrays, of which it can be made again by `_part`."""
    visits = part.arrays["", "visits"]
    arrays = {
        "logits": part.arrays["", "logits"],
        "visits": np.packbits(visits),
        "shape": np.array(visits.shape),
    }
    if (counted := part.counted) is not None:
        arrays |= {f"counts_{kind}": counts for kind, counts in counted.counts.items()}
        arrays |= {f"sums_{kind}": sums for kind, sums in counted.sums.items()}
        arrays["hashes"] = np.array(counted.hashes or (), str)
    return arrays


def _part(arrays: Mapping[str, NDArray[Any]], images: int) -> TracePart:
    shape = tuple(arrays["shape"].tolist())
    bits = np.unpackbits(arrays["visits"], count=int(np.prod(shape, dtype=object)))
    visits = bits.reshape(shape).astype(np.bool_)
    if len(visits) != images or len(arrays["logits"]) != images:
        raise ValueError(f"it has {len(visits)} images, not {images}")
    counted = None
    if "hashes" in arrays:
        counted = Part(
            images=images,
            counts={kind: arrays[f"counts_{kind}"] for kind in KINDS},
            sums={kind: arrays[f"sums_{kind}"] for kind in KINDS},
            visits=visits,
            hashes=tuple(arrays["hashes"].tolist()),
        )
    return TracePart(arrays={("", "logits"): arrays["logits"], ("", "visits"): visits}, counted=counted)


@contextmanager
def kept(parts: UnfinishedRun | None) -> Iterator[None]:
    """Write what is done when a run is interrupted, or fails after parts of it were written."""
    try:
        yield
    except KeyboardInterrupt:
        if parts is not None:
            parts.save()
        raise
    except Exception:
        if parts is not None and parts.begun:
            parts.save()
        raise
