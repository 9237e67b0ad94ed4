"""Reads the arrays of an HDF5 file in a process: `python -m stas_neuro.importers.hdf5_child FILE`.

HDF5's library opens other files on a link's word, and reserves what a header declares. So links, external
storage and virtual datasets are refused before anything is read, sizes are compared with the length of the
file, and `hdf5_file` gives this process a deadline; it limits its own memory.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro.arrays import check_unpacked
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.ir import Array

FILE_LIMIT = 1 << 30
"""Largest file in bytes."""
OBJECTS_LIMIT = 50_000
"""Groups and datasets of a file; a node of a network has about eight."""
DEPTH_LIMIT = 6
"""Groups inside groups; those of a NIR file are node, nodes, the node's own, its metadata."""
STRINGS_LIMIT = 100_000
"""Texts in a file: two for each edge, one for each node."""
MEMORY = 1 << 30
"""Bytes that HDF5 may take beside the arrays themselves."""
REFUSED = 2
"""Exit code: the file was refused, and standard output says why."""
_DEFLATE, _SHUFFLE = 1, 2


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all datasets of a file, by path ("node/nodes/0/weight").

    Numbers keep their dtype; texts become arrays of dtype U.

    Raises
    ------
    BadDocument
        When it cannot be opened, is no HDF5 file, holds what a network does not need (links, external
        storage, virtual datasets, other filters or types), or declares more than its length can hold. Names
        the place.
    """
    import h5py

    try:
        with open_file(path, FILE_LIMIT) as stream:
            size = os.fstat(stream.fileno()).st_size
        # By name, not by the open stream: HDF5 then reads without calling back into Python.
        with h5py.File(path, "r", locking=False) as file:
            datasets = dict(_walk(h5py, file))
            _check_sizes(datasets, size)
            return {name: _values(name, dataset) for name, dataset in datasets.items()}
    except BadDocument:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError) as error:  # those of h5py
        raise BadDocument(f"is no readable HDF5 file ({reason(error)})") from error


def _walk(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield all datasets with their paths; raises BadDocument for any other object than a group."""
    seen: set[Any] = set()
    waiting = [("", file)]
    while waiting:
        place, group = waiting.pop()
        # Iterating by name reads no link; `get(getlink=True)` tells the kind of one without following it.
        for key in group:
            where = f"{place}/{key}".lstrip("/")
            if isinstance(key, bytes) or not key.isprintable():  # bytes: no UTF-8
                raise BadDocument("a name has characters that cannot be printed", (where,))
            link = group.get(key, getlink=True)
            if type(link) is not h5py.HardLink:
                raise BadDocument("is a link to another place, which is not followed", (where,))
            child = group[key]
            address = h5py.h5o.get_info(child.id).addr
            if address in seen:
                raise BadDocument("is an object that is linked twice", (where,))
            seen.add(address)
            if len(seen) > OBJECTS_LIMIT:
                raise BadDocument(f"has more than {OBJECTS_LIMIT} objects")
            if isinstance(child, h5py.Group):
                if where.count("/") >= DEPTH_LIMIT:
                    raise BadDocument(f"is nested more than {DEPTH_LIMIT} deep", (where,))
                waiting.append((where, child))
            elif isinstance(child, h5py.Dataset):
                _check_storage(h5py, where, child)
                yield where, child
            else:
                raise BadDocument("is neither a group nor a dataset", (where,))


def _check_storage(h5py: Any, where: str, dataset: Any) -> None:
    created = dataset.id.get_create_plist()
    if created.get_external_count():
        raise BadDocument("keeps its values in another file (external storage)", (where,))
    if created.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise BadDocument("is a virtual dataset, made of others", (where,))
    filters = {created.get_filter(index)[0] for index in range(created.get_nfilters())}
    if not filters <= {_DEFLATE, _SHUFFLE}:
        raise BadDocument(f"is compressed by another filter than gzip and shuffle ({filters})", (where,))
    text = h5py.check_string_dtype(dataset.dtype) is not None
    if not (text or dataset.dtype.kind in "iufb"):
        raise BadDocument(f"has values of type {dataset.dtype}, no numbers or texts", (where,))


def _check_sizes(datasets: dict[str, Any], size: int) -> None:
    """Compare what datasets declare with the length of the file, chunks too: HDF5 unpacks them whole."""
    strings = sum(dataset.size or 0 for dataset in datasets.values() if dataset.dtype.kind == "O")
    if strings > STRINGS_LIMIT:
        raise BadDocument(f"has {strings} texts, the limit is {STRINGS_LIMIT}")
    declared = 0
    for dataset in datasets.values():
        values = max(dataset.size or 0, int(np.prod(dataset.chunks or (), dtype=object)))
        declared += values * dataset.dtype.itemsize
    check_unpacked(declared, size)


def _values(where: str, dataset: Any) -> Array:
    if dataset.shape is None:
        raise BadDocument("is empty", (where,))
    if dataset.dtype.kind in "OS":
        return np.asarray(dataset.asstr()[()], dtype=np.str_)
    return np.asarray(dataset[()])


def _limit_memory(size: int) -> None:
    """Let this process take `MEMORY`, and the arrays of a file twice, beyond what it has."""
    if sys.platform != "linux":
        return  # macOS does not enforce it
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(path: Path) -> int:
    """Write the names and arrays of a file to standard output, as npz, or why it was refused, as text."""
    try:
        import h5py  # noqa: F401  # before memory is limited by what the process has

        _limit_memory(2 * FILE_LIMIT)
        arrays = read_arrays(path)
        stream = io.BytesIO()
        # Names of members would have to be names of files: they go in an array of their own, the first.
        np.savez(stream, np.array(list(arrays), dtype=np.str_), *arrays.values())
    except BadDocument as error:
        return _refuse(str(error))
    except MemoryError:
        return _refuse("asks for more memory than such a file needs")
    sys.stdout.buffer.write(stream.getvalue())
    return 0


def _refuse(what: str) -> int:
    sys.stdout.buffer.write(what.encode())
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
