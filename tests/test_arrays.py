"""Arrays of .npz files: what numpy writes is read back to the bit, and nothing is believed without data."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from stas_neuro.arrays import RATIO, read_npz
from stas_neuro.data import MOST_CLASSES, load_data
from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError

SCALARS = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.unicode_string_dtypes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hnp.arrays(SCALARS | hnp.complex_number_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "arrays.npz"
    arrays = {"it": array, "turned": np.asfortranarray(array)}
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        read = read_npz(path)
        assert read.keys() == arrays.keys()
        for name, expected in np.load(path).items():
            assert read[name].dtype == expected.dtype.newbyteorder("=")
            assert read[name].flags.f_contiguous == expected.flags.f_contiguous
            np.testing.assert_array_equal(read[name], expected)
    assert read_npz(path, ["it", "other"]).keys() == {"it"}


FORM = "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def npy(descr: str = "'<f8'", shape: str = "(2,)", order: str = "False", data: bytes = bytes(16)) -> bytes:
    return with_header(FORM.format(descr=descr, order=order, shape=shape), data)


def with_header(header: str, data: bytes = bytes(16)) -> bytes:
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header.encode() + data


def write(path: Path, content: bytes, name: str = "images.npy", how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content, how)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(descr="'|O'"), "has dtype .*O.*, which is not bool, a number or text"),
        (npy(descr="'<M8[s]'"), "which is not bool, a number or text"),
        (npy(descr="'|V8'"), "which is not bool, a number or text"),
        (npy(descr="'<f3'", shape="(0,)", data=b""), "which numpy does not support"),
        (npy(descr="'|S0'", shape="(9999999999,)", data=b""), "which is not bool"),
        (npy(descr="[('a', '<f8')]"), "has a header that is not that of a plain array"),
        (npy(shape="(__import__('os').getpid(),)"), "has a header that is not that of a plain array"),
        (npy(shape="(" * 3000), "has a header that is not that of a plain array"),
        (npy(shape="(" * 10**5), r"has a header of \d+ bytes, the limit is 4096"),
        (npy(shape="(-2,)"), "has a header that is not that"),
        (npy(shape="(2 2,)"), r"has shape '\(2 2,\)', which is not valid"),
        (npy(shape="(" + "1," * 33 + ")"), "which is not valid"),
        (npy(shape="True"), "has shape 'True', which is not valid"),
        (npy(shape="(1000000000, 1000)"), r"shape \(1000000000, 1000\) of float64, and 16 bytes of data"),
        (npy(shape="(0, 999999999999, 999999999999)", data=b""), "array is too big"),
        (npy(shape="(3,)"), r"has shape \(3,\) of float64, and 16 bytes of data"),
        (npy(order="1"), "has a header that is not that"),
        (npy(order="'x'"), "has fortran_order"),
        (npy(descr="'<U1'", data=b"\xff" * 8), "has values that are invalid for <U1"),
        (npy(descr="'|b1'", data=b"\2\1"), "has values that are invalid for bool"),
        (with_header("{'descr': '<f8', 'shape': (2,)}"), "has a header that is not that"),
        (with_header("{'shape': (2,), 'shape': (2,), 'descr': '<f8'}"), "has a header that is not that"),
        (b"\x93NUMPY\2\0\xff\0\0\0{", "ends within its header"),
        (b"\x93NUMPY\7\0" + bytes(99), "is not a numpy array"),
        (b"", "is not a numpy array"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadDocument, match=message):
        read_npz(write(tmp_path / "a.npz", content))


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_numpys_compression_is_read(tmp_path: Path, how: int) -> None:
    with pytest.raises(BadDocument, match="compressed unlike numpy's files"):
        read_npz(write(tmp_path / "a.npz", npy(), how=how))


def test_archives_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", npy())
    with pytest.raises(BadDocument, match="has 'x' 2 times"):
        read_npz(path)
    with pytest.raises(BadDocument, match=r"has '../../notes.txt', which is not an array"):
        read_npz(write(path, b"", name="../../notes.txt"))
    assert read_npz(path, ["x"]) == {}  # whatever else users keep in theirs
    write(path, npy())
    content = bytearray(path.read_bytes())
    for place in (content.index(b"PK\1\2") + 8, 6):
        content[place] |= 1
    path.write_bytes(content)
    with pytest.raises(BadDocument, match="is encrypted"):
        read_npz(path)
    write(path, npy() + bytes(10_000))
    content = bytearray(path.read_bytes())
    content[26:28] = b"\0\x20"  # a name of 8192 letters in the header of the member, which zipfile quotes
    path.write_bytes(content)
    with pytest.raises(BadDocument, match=r"damaged \(File name in directory") as caught:
        read_npz(path)
    assert len(str(caught.value)) < 300
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(BadDocument, match="is a pipe or a device, not a regular file"):
        read_npz(tmp_path / "pipe.npz")
    with pytest.raises(BadDocument, match="is a directory"):
        read_npz(tmp_path)


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stas_neuro.arrays.UNPACKED", most := 1 << 24)
    path = tmp_path / "bomb.npz"
    header = npy(descr="'|u1'", shape=f"({most},)", data=b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header)
        member.write(bytes(most))
    size = path.stat().st_size
    assert RATIO * size < most
    with pytest.raises(
        BadDocument, match=rf"unpacks to \d+ bytes, the limit for a file of {size} bytes is {most}"
    ):
        read_npz(path)
    # A size that no compression reaches is no matter of limits.
    write(path, npy(shape="(2000000,)", descr="'|u1'"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 2_000_000 + len(npy(data=b"")))
    path.write_bytes(content)
    with pytest.raises(BadDocument, match=r"unpacks to 20000\d\d bytes"):
        read_npz(path)


# Data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2**31, 2**31, 2**31), (0, 2**32 - 1, 2**32 - 1), (60_000, 28, 28)])
@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_as_large_as_it_is(tmp_path: Path, shape: tuple[int, ...], packed: bool) -> None:
    header = struct.pack(">xxBB3I", 8, 3, *shape)
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(header) if packed else header)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">xxBBI", 8, 1, 0))
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte"):
        load_data(str(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"labels": np.array([0, 2**63], np.uint64)},
            r"the label of image 1 is 9223372036854775808, outside 0\.\.65535",
        ),
        ({"labels": np.array([0, MOST_CLASSES])}, r"the label of image 1 is 65536, outside 0\.\.65535"),
        ({"classes": np.arange(MOST_CLASSES + 1)}, "has 65537 classes; use at most 65536"),
        ({"classes": np.array(["a", "\x1b[31m"])}, "has unprintable characters"),
        ({"images": np.zeros((2, 1, 0, 4))}, "has no images"),
        ({"images": np.full((2, 1, 1, 1, 1), 1e40)}, r"pixels are beyond 1e\+12; scale"),
        ({"images": np.full((2, 1, 1, 1, 1), np.finfo(np.longdouble).max)}, "pixels are beyond"),
    ],
)
def test_numbers_beyond_limits(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "data.npz", **{"images": np.zeros((2, 4, 4), np.uint8), **arrays})
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path / "data.npz"))


def test_half_precision_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=np.full((2, 4, 4), 0.5, np.float16))
    assert load_data(str(tmp_path / "data.npz")).images.dtype == np.float64
