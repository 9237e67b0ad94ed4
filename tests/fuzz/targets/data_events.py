"""Recordings of event cameras, binned to the frames of a model."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fuzz.files import Files
from fuzz.target import Target
from fuzz.targets.data_npz import use
from stas_neuro.data import load_data


def make_seeds() -> Sequence[Files]:
    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, most, 20) for most in (4, 4, 2))
    t = np.arange(20)
    stream = io.BytesIO()
    np.savez(stream, x=x, y=y, t=t, p=p)
    prophesee = np.stack([t, x | (y << 14) | (p << 28)], 1).astype("<u4").tobytes()
    packet = struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 20, 20, 20)
    address = np.stack([(x << 17) | (y << 2) | (p << 1), t], 1).astype("<u4").tobytes()
    return [
        {"a.npz": stream.getvalue()},
        {"a.bin": np.stack([x, y, p << 7, 0 * t, t], 1).astype(np.uint8).tobytes()},
        {"a.dat": b"% Height 4\n% Width 4\n" + bytes([12, 8]) + prophesee},
        {"a.aedat": b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet + address},
        *_aedat4(x.tolist(), y.tolist(), t.tolist(), p.tolist()),
    ]


def _aedat4(*events: list[int]) -> Iterator[Files]:
    try:
        import dv_processing as dv
    except ImportError:  # it is installed on Linux only
        return
    config = dv.io.MonoCameraWriter.Config("camera")
    config.addEventStream((4, 4))
    store = dv.EventStore()
    for x, y, t, p in zip(*events, strict=True):
        store.push_back(t, x, y, bool(p))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.aedat4"
        dv.io.MonoCameraWriter(str(path), config).writeEvents(store)
        yield {path.name: path.read_bytes()}


def read(inputs: Path, output: Path) -> None:
    use(load_data(f"{inputs}:bins=2,size=4x4", "train"))


TARGET = Target("data_events", make_seeds, read)
