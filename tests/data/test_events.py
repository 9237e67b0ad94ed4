"""Recordings of event cameras, binned to frames, compared with a loop over their events."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stas_neuro.data import load_data
from stas_neuro.data.events import Binning, Events, read_events
from stas_neuro.errors import InputError

RNG = np.random.default_rng(2)
COUNT = 500


def some(width: int, height: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    sides = (rng.integers(0, side, COUNT) for side in (width, height))
    return Events(*sides, np.sort(rng.integers(0, 1 << 20, COUNT)), rng.integers(0, 2, COUNT))


def nmnist(events: Events) -> bytes:
    """As the files of N-MNIST: 5 bytes an event, with a mark where the time of 23 bits has not overflowed."""
    t = events.t.astype(int)
    columns = (events.x, events.y, (events.p << 7) | (t >> 16), (t >> 8) & 255, t & 255)
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def aedat3(events: Events) -> bytes:
    address = (events.x << 17) | (events.y << 2) | (events.p << 1) | 1
    body = np.stack([address, events.t], 1).astype("<u4").tobytes()
    header = struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, COUNT, COUNT, COUNT)
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + header + body


def aedat2(events: Events) -> bytes:
    address = (events.x << 8) | (events.y << 1) | events.p
    return b"#!AER-DAT2.0\r\n# DVS128\r\n" + np.stack([address, events.t], 1).astype(">u4").tobytes()


def prophesee(events: Events) -> bytes:
    word = events.x | (events.y << 14) | (events.p << 28)
    body = np.stack([events.t, word], 1).astype("<u4").tobytes()
    return b"% Data file\n% Version 2\n% Height 60\n% Width 90\n" + bytes([12, 8]) + body


def aedat4(
    path: Path, events: Events, size: tuple[int, int], *, cameras: int = 1, compression: str = "LZ4"
) -> None:
    """By the library of the cameras' maker, in microseconds since 1970."""
    dv = pytest.importorskip("dv_processing")
    config = dv.io.MonoCameraWriter.Config("camera", getattr(dv.CompressionType, compression))
    for number in range(cameras):
        config.addEventStream(size, f"events{number or ''}")
    store = dv.EventStore()
    for t, x, y, p in zip(*map(np.ndarray.tolist, (events.t, events.x, events.y, events.p)), strict=True):
        store.push_back(t + EPOCH_US, x, y, bool(p))
    writer = dv.io.MonoCameraWriter(str(path), config)
    writer.writeEvents(store)


EPOCH_US = 1_700_000_000_000_000
FILES = {
    "bin": (nmnist, (34, 34)),
    "aedat": (aedat3, (128, 128)),
    "dat": (prophesee, (90, 60)),
}


def by_loop(events: Events, size: tuple[int, int], bins: int) -> NDArray[np.int64]:
    counts = np.zeros((bins, 2, size[1], size[0]), np.int64)
    first, duration = int(events.t.min()), int(events.t.max() - events.t.min()) + 1
    for x, y, t, p in zip(events.x, events.y, events.t, events.p, strict=True):
        counts[(int(t) - first) * bins // duration, int(p), int(y), int(x)] += 1
    return counts


@pytest.mark.parametrize("ending", FILES)
@pytest.mark.parametrize("values", ["binary", "counts"])
def test_recordings_in_class_folders(tmp_path: Path, ending: str, values: str):
    write, size = FILES[ending]
    wanted = []
    for seed, name in enumerate(["a", "b", "a"]):  # classes alternate
        (tmp_path / name).mkdir(exist_ok=True)
        events = some(*size, seed)
        (tmp_path / name / f"{seed}.{ending}").write_bytes(write(events))
        counts = by_loop(events, size, 4)
        wanted.append(counts if values == "counts" else 255 * (counts > 0))
    data = load_data(f"{tmp_path}:bins=4,values={values}")
    assert (data.images.shape, data.images.dtype) == ((3, 4, 2, size[1], size[0]), np.uint8)
    np.testing.assert_array_equal(np.asarray(data.images), wanted)
    np.testing.assert_array_equal(data.labels, [0, 1, 0])
    assert data.classes == ("a", "b")
    assert load_data(str(tmp_path)).images.shape[1] == Binning.bins


def test_other_files(tmp_path: Path):
    events = some(128, 128)
    (tmp_path / "old.aedat").write_bytes(aedat2(events))
    np.savez(tmp_path / "four.npz", x=events.x, y=events.y, t=events.t, p=events.p)
    for name in ("old.aedat", "four.npz"):
        read = read_events(tmp_path / name)
        for axis in "xytp":
            np.testing.assert_array_equal(
                getattr(read, axis), getattr(events, axis), err_msg=f"{name} {axis}"
            )


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_aedat_4(tmp_path: Path, compression: str):
    events = some(346, 260)
    aedat4(tmp_path / "a.aedat4", events, (346, 260), compression=compression)
    (tmp_path / "a.aedat4").rename(tmp_path / "b.aedat")  # the header says which version it is
    aedat4(tmp_path / "a.aedat4", events, (346, 260), compression=compression)
    for name in ("a.aedat4", "b.aedat"):
        read = read_events(tmp_path / name)
        assert read.size == (346, 260)
        np.testing.assert_array_equal([read.x, read.y, read.p], [events.x, events.y, events.p])
        np.testing.assert_array_equal(read.t, events.t + EPOCH_US)
    frames = load_data(f"{tmp_path}:bins=3,values=counts").images[:]
    np.testing.assert_array_equal(frames, [by_loop(events, (346, 260), 3)] * 2)


def test_aedat_4_of_no_events_or_two_cameras_or_damaged(tmp_path: Path):
    none = np.zeros(0, np.int64)
    aedat4(tmp_path / "none.aedat4", Events(none, none, none, none), (20, 10))
    assert not read_events(tmp_path / "none.aedat4").t.size
    aedat4(tmp_path / "two.aedat4", some(20, 10), (20, 10), cameras=2)
    with pytest.raises(InputError, match=r"two\.aedat4: has events of 2 cameras; export those of one"):
        read_events(tmp_path / "two.aedat4")
    aedat4(tmp_path / "one.aedat4", some(20, 10), (20, 10))
    whole = (tmp_path / "one.aedat4").read_bytes()
    for end in (10, 30, 1000, len(whole) // 2):
        (tmp_path / "cut.aedat4").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut\.aedat4: not a readable recording"):
            read_events(tmp_path / "cut.aedat4")


def test_damage_at_which_the_library_would_end_the_process(tmp_path: Path):
    aedat4(tmp_path / "one.aedat4", some(20, 10), (20, 10))
    whole = (tmp_path / "one.aedat4").read_bytes()
    packets = 18 + int.from_bytes(whole[14:18], "little")
    for old, new, message in (
        (b"MonoCamera", b"Mono\xe1amera", "can't decode byte 0xe1"),
        (whole[packets : packets + 8], bytes(4) + b"\xff" * 4, "it ends within a packet"),
        (whole[14:18], b"\xff" * 4, "its header has 4294967295 bytes"),
        (b"DAT4.0", b"DAT5.0", "does not begin with #!AER-DAT4.0"),
    ):
        assert old in whole
        (tmp_path / "bad.aedat4").write_bytes(whole.replace(old, new, 1))
        with pytest.raises(InputError, match=re.escape(message)):
            read_events(tmp_path / "bad.aedat4")


def test_data_say_how_their_events_were_binned(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "one.bin").write_bytes(nmnist(some(20, 10, ord(name))))
    assert load_data(str(tmp_path)).source == str(tmp_path)
    data = load_data(f"{tmp_path}:bins=5,size=20x10")
    again = load_data(data.source)
    assert again.images.shape == (2, 5, 2, 10, 20)
    np.testing.assert_array_equal(again.images[:], data.images[:])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"t": np.array([0.0, 0.25])}, r"a\.npz: t of event 1 is 0\.25, no whole number; .*microseconds"),
        ({"x": np.array([0.5, 0.0])}, r"x of event 0 is 0\.5, no whole number"),
        ({"y": np.array([0.0, np.nan])}, "y of event 1 is nan"),
        ({"p": np.array([np.inf, 1.0])}, "p of event 0 is inf"),
        ({"t": np.array([0.0, 1e19])}, r"t of event 1 is 1e\+19"),
        (
            {"t": np.array([0, 1 << 62])},
            r"events at times 0\.\.4611686018427387904; with bins=3 use times in -",
        ),
        ({"t": np.array([-(1 << 63), 0])}, r"events at times -9223372036854775808\.\.0; with"),
        ({"x": np.array([0, 1 << 63], np.uint64)}, r"at columns 0\.\.9223372036854775808 and"),
    ],
)
def test_numbers_that_cannot_be_binned(tmp_path: Path, changed: dict[str, NDArray[Any]], message: str):
    events = {name: np.array([0, 1]) for name in "xytp"} | changed
    np.savez(tmp_path / "a.npz", **events)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        load_data(f"{tmp_path}:bins=3,size=4x4").images[:]


def test_whole_numbers_may_be_floats_and_times_large(tmp_path: Path):
    floats = {name: np.array([0.0, 1.0, 2.0]) for name in "xyp"}
    np.savez(tmp_path / "a.npz", **floats, t=np.array([-3, 0, 3]) * (1 << 58))  # type: ignore[arg-type]
    frames = load_data(f"{tmp_path}:bins=3,size=4x4").images[0]
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1], [2, 1, 2, 2]]


def test_a_recording_without_events(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(b"")
    data = load_data(str(tmp_path))
    assert data.labels is None
    assert not data.images[:].any()


def test_sizes_of_sensors(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(nmnist(some(60, 50)))
    with pytest.raises(
        InputError, match=r"sensor has 34 x 34 pixels; name the size of the sensor, as in DATA:size="
    ):
        load_data(str(tmp_path)).images[:]
    assert load_data(f"{tmp_path}:size=60x50,bins=3").images[:].shape == (1, 3, 2, 50, 60)
    (tmp_path / "a.bin").unlink()
    np.savez(tmp_path / "a.npz", x=[1], y=[1], t=[1], p=[1])
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    (tmp_path / "c").mkdir()
    with pytest.raises(
        InputError, match=r"does not say how many pixels the sensor has; name its size, as in DATA"
    ):
        load_data(f"{tmp_path}:bins=3")


@pytest.mark.parametrize(
    "options", ["bins=0", "bins=x", "size=5", "size=0x5", "values=mean", "bin=5", "bins=9,,x="]
)
def test_options_that_are_refused(tmp_path: Path, options: str):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"there is no way '.*' to bin events; use bins=1 to"):
        load_data(f"{tmp_path}:{options}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"1234", "not a multiple of the 5 bytes of an event"),
        ("a.aedat", b"hello", "does not begin with #!AER-DAT"),
        ("a.aedat", b"#!AER-DAT3.1\r\nrubbish", "not a readable recording"),
        ("a.dat", b"% Height 5\n", "not a readable recording"),
        ("a.dat", bytes([12, 4]) + bytes(8), "have 4 bytes, not 8"),
        ("a.dat", b"% Height 5\n% Width 5\n" + bytes([12, 8]) + bytes(9), "ends within an event"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
def test_damaged_recordings(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_data(f"{tmp_path}:size=9x9").images[:]


def test_without_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(InputError, match=r"aedat4 cannot be used here: .*; pip install 'aedat>=2\.3' "):
        load_data(str(tmp_path))


def test_tonic_is_not_imported_whole(tmp_path: Path):
    before: set[Any] = set(sys.modules)
    (tmp_path / "a.bin").write_bytes(nmnist(some(34, 34)))
    load_data(str(tmp_path)).images[:]
    assert "tonic" not in set(sys.modules) - before
