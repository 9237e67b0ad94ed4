"""AEDAT 4, the format of iniVation's cameras, by the library aedat.

A file has the line ``#!AER-DAT4.0``, a header (a FlatBuffer with the settings of each stream as XML), packets
(stream, length, content), and a table of the packets, whose position the header has.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.documents import BadDocument, open_file
from stas_neuro.errors import InputError
from stas_neuro.extras import needs

_BEGIN = b"#!AER-DAT4.0\r\n"
_HEADER_LIMIT = 1 << 24
"""Bytes of the header that are read at most."""
_TABLE, _SETTINGS = 1, 2
"""Numbers of the fields of the header with the position of the table and with the settings."""
_EVENT = np.dtype([("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("on", np.bool_)])


def read_aedat4(path: Path) -> tuple[NDArray[Any], tuple[int, int]]:
    """Read the events of a recording of one camera.

    Returns
    -------
    events : structured (n,)
        Fields ``t`` (uint64, microseconds), ``x`` and ``y`` (uint16), ``on`` (bool).
    size : (width, height)
        Of the sensor.

    Raises
    ------
    InputError
        If aedat is not installed, or there are several cameras, or none.
    Exception
        Of any kind, if the file is damaged.
    """
    with needs("aedat4"):
        import aedat
    _check(path)
    try:
        decoder = aedat.Decoder(path)
        streams = decoder.id_to_stream()
        cameras = [number for number, stream in streams.items() if stream["type"] == "events"]
        if len(cameras) != 1:
            what = f"{path}: has events of {len(cameras)} cameras"
            raise InputError(what, "export those of one camera to a file")
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == cameras[0]]
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise BadDocument(str(error)) from error  # a panic of Rust is no Exception
    camera = streams[cameras[0]]
    events = np.concatenate(packets) if packets else np.zeros(0, _EVENT)
    return events, (camera["width"], camera["height"])


def _check(path: Path) -> None:
    """Refuse damage at which aedat 2.3 ends the process: settings that are no text, a packet of gigabytes."""
    with open_file(path) as stream:
        if stream.read(len(_BEGIN)) != _BEGIN:
            raise BadDocument("it does not begin with #!AER-DAT4.0")
        (size,) = struct.unpack("<I", stream.read(4))
        if size > _HEADER_LIMIT:
            raise BadDocument(f"its header has {size} bytes")
        header = stream.read(size)
        place, end = stream.tell(), path.stat().st_size
        if (field := _field(header, _TABLE)) is not None:
            (table,) = struct.unpack_from("<q", header, field)
            end = end if table < 0 else table  # -1 of a recording that was not closed
        if (field := _field(header, _SETTINGS)) is not None:
            text = field + struct.unpack_from("<I", header, field)[0]
            (length,) = struct.unpack_from("<I", header, text)
            header[text + 4 : text + 4 + length].decode()
        while place < end:
            stream.seek(place)
            _, length = struct.unpack("<II", stream.read(8))
            place += 8 + length
    if place > end:
        raise BadDocument("it ends within a packet")


def _field(table: bytes, number: int) -> int | None:
    """Return where a field of the root of a FlatBuffer is; None if it is left out."""
    (root,) = struct.unpack_from("<I", table, 0)
    fields = root - struct.unpack_from("<i", table, root)[0]
    (size,) = struct.unpack_from("<H", table, fields)
    place = 4 + 2 * number
    if place + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", table, fields + place)
    return root + offset if offset else None
