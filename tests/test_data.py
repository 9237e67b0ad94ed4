"""Loading of labelled images: what is read, and what is refused in one line."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from stas_neuro.data import LabelledImages, load_data, normalise
from stas_neuro.data.named import FASHION_MNIST_CLASSES
from stas_neuro.errors import InputError

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(directory: Path, split: str, images: bytes, labels: bytes, compress: bool = False) -> None:
    for name, content in zip(NAMES[split], (images, labels), strict=True):
        if compress:
            (directory / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / name).write_bytes(content)


def some(count: int = 5, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 6, 4), np.uint8), rng.integers(0, 10, count, np.uint8)


# IDX ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_idx_round_trip(tmp_path: Path, compress: bool):
    arrays = {split: some(seed=seed) for seed, split in enumerate(NAMES)}
    for split, (images, labels) in arrays.items():
        write_idx(tmp_path, split, idx(images), idx(labels), compress)
    for split, (images, labels) in arrays.items():
        data = load_data(str(tmp_path), split)
        np.testing.assert_array_equal(data.images, images[:, None])
        np.testing.assert_array_equal(data.labels, labels)
        assert (data.images.dtype, data.labels.dtype) == (np.uint8, np.int64)
        assert data.source == str(tmp_path)
        assert len(data) == 5


IMAGES, LABELS = some()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (idx(IMAGES)[:-1], idx(LABELS), r"119 bytes of pixels or labels for shape \(5, 6, 4\); fetch"),
        (idx(IMAGES) + b"0", idx(LABELS), r"121 bytes of pixels or labels for shape"),
        (idx(IMAGES)[:6], idx(LABELS), "t10k-images-idx3-ubyte: not a readable IDX file"),
        (b"", idx(LABELS), "not a readable IDX file"),
        (
            gzip.compress(idx(IMAGES)),
            idx(LABELS),
            "not a readable IDX file .it does not begin with an IDX header",
        ),
        (idx(IMAGES).replace(b"\x08", b"\x0d", 1), idx(LABELS), "element type 0xd is not unsigned byte"),
        (idx(LABELS), idx(LABELS), "images-idx3-ubyte: 1 dimensions, not 3"),
        (idx(IMAGES), idx(IMAGES), "labels-idx1-ubyte: 3 dimensions, not 1"),
        (idx(IMAGES), idx(LABELS[:3]), r"labels are uint8 of shape \(3,\) for 5 images"),
        (idx(IMAGES[:0]), idx(LABELS[:0]), "has no images"),
    ],
    ids=["short", "long", "cut", "empty", "gzipped", "floats", "labels", "images", "fewer-labels", "none"],
)
def test_idx_files_are_refused(tmp_path: Path, images: bytes, labels: bytes, message: str):
    write_idx(tmp_path, "test", images, labels)
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path))


def test_damaged_gzip(tmp_path: Path):
    write_idx(tmp_path, "test", idx(IMAGES), idx(LABELS), compress=True)
    path = tmp_path / f"{NAMES['test'][0]}.gz"
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:20] + b"\xff\xff\xff" + whole[23:], b"not gzip at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"ubyte\.gz: not a readable IDX file"):
            load_data(str(tmp_path))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | st.builds(lambda head, tail: head + tail, st.just(b"\0\0\x08"), st.binary()))
def test_no_bytes_crash_the_reader(tmp_path: Path, content: bytes):
    write_idx(tmp_path, "test", content, content)
    with pytest.raises(InputError):
        load_data(str(tmp_path))


def test_a_file_is_missing(tmp_path: Path):
    write_idx(tmp_path, "test", idx(IMAGES), idx(LABELS))
    (tmp_path / NAMES["test"][1]).unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte \(or \.gz\) not found; use a directory"):
        load_data(str(tmp_path))
    with pytest.raises(InputError, match="train-images-idx3-ubyte"):
        load_data(str(tmp_path), "train")


# Fashion-MNIST and digits -------------------------------------------------------------------------------


def test_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_idx(tmp_path, "test", idx(IMAGES), idx(LABELS), compress=True)
    monkeypatch.setenv("STAS_FASHION_MNIST", str(tmp_path))
    data = load_data("fashion-mnist", "test")
    np.testing.assert_array_equal(data.images[:, 0], IMAGES)
    assert data.classes == FASHION_MNIST_CLASSES
    assert data.source == "fashion-mnist"
    assert len(set(FASHION_MNIST_CLASSES)) == 10


def test_fashion_mnist_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STAS_FASHION_MNIST", str(tmp_path / "nowhere"))
    with pytest.raises(InputError) as caught:
        load_data("fashion-mnist")
    assert str(caught.value) == (
        f"Fashion-MNIST is not in {tmp_path / 'nowhere'}; install the Debian package dataset-fashion-mnist, "
        "or set STAS_FASHION_MNIST to a directory with its four IDX files"
    )
    monkeypatch.delenv("STAS_FASHION_MNIST")
    monkeypatch.setattr("stas_neuro.data.named.FASHION_MNIST_DIRECTORIES", ("/nowhere", "~/nowhere-either"))
    with pytest.raises(InputError, match=r"^Fashion-MNIST is not in /nowhere or ~/nowhere-either; install"):
        load_data("fashion-mnist")


def test_digits():
    train, test = (load_data("digits", split) for split in ("train", "test"))
    assert (train.images.shape, test.images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 240)
    assert set(train.labels) == set(test.labels) == set(range(10))
    assert train.classes == tuple("0123456789")


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="scikit-learn, which is not installed; pip install scikit-learn"):
        load_data("digits")


def test_data_of_no_kind(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"^there is no data set or file 'imagenet'; use one of fashion-mnist, "
    ):
        load_data("imagenet")
    with pytest.raises(InputError, match=r"no\.npz not found; use an \.npz"):
        load_data(str(tmp_path / "no.npz"))


# npz ----------------------------------------------------------------------------------------------------


def npz(path: Path, **arrays: object) -> str:
    np.savez(path / "data.npz", **arrays)  # type: ignore[arg-type]
    return str(path / "data.npz")


@pytest.mark.parametrize(
    ("shape", "read"),
    [((3, 6, 4), (3, 1, 6, 4)), ((3, 2, 6, 4), (3, 2, 6, 4)), ((3, 5, 2, 6, 4), (3, 5, 2, 6, 4))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_npz(tmp_path: Path, shape: tuple[int, ...], read: tuple[int, ...], dtype: type):
    images = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    path = npz(tmp_path, images=images, labels=np.array([0, 2, 1], np.uint8), classes=["a", "b", "c"])
    data = load_data(path)
    assert data.images.shape == read
    assert data.images.dtype == (np.uint8 if dtype is np.uint8 else np.float64)
    np.testing.assert_array_equal(data.images.ravel(), images.ravel())
    np.testing.assert_array_equal(data.labels, [0, 2, 1])
    assert (data.classes, data.source, data.labels.dtype) == (("a", "b", "c"), path, np.int64)
    assert load_data(path, "train").labels is not None  # taken whole, whatever the split


def test_npz_without_labels_or_extension(tmp_path: Path):
    path = npz(tmp_path, images=np.zeros((2, 4, 4)), else_=np.arange(3))
    data = load_data(path)
    assert data.labels is None and data.classes == ()
    assert data.select(slice(1, None)).labels is None
    renamed = Path(path).rename(tmp_path / "images")
    assert len(load_data(str(renamed))) == 2


def test_class_names_are_text_bytes_or_numbers(tmp_path: Path):
    for array, names in (
        (np.array(["caf\u00e9".encode()]), ("caf\u00e9",)),
        ([7, 5], ("7", "5")),
        ([], ()),
    ):
        assert load_data(npz(tmp_path, images=np.zeros((2, 4, 4)), classes=array)).classes == names


def test_labels_of_fashion_mnist_are_its_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_idx(tmp_path, "test", idx(IMAGES), idx(np.array([0, 9, 10, 3, 11], np.uint8)))
    monkeypatch.setenv("STAS_FASHION_MNIST", str(tmp_path))
    with pytest.raises(
        InputError, match=r"fashion-mnist: the label of image 2 is 10, outside 0\.\.9, and so"
    ):
        load_data("fashion-mnist")


Z = np.zeros((3, 4, 4))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": Z}, "has no array named images; its arrays are pictures; name the arrays"),
        ({"images": Z[:0]}, "has no images; use at least one"),
        ({"images": np.zeros((3, 4))}, r"images have shape \(3, 4\); use \(n, H, W\)"),
        ({"images": np.array(5.0)}, r"images have shape \(\)"),
        ({"images": Z.astype(np.int64) - 1}, r"pixels are int64 in -1\.\.-1; scale them to 0\.\.255"),
        ({"images": np.full_like(Z, 255.0)}, r"float pixels are in 255..255; scale them to 0..1"),
        ({"images": np.full_like(Z, np.nan)}, "pixels have NaN or infinite"),
        ({"images": np.full_like(Z, np.inf)}, "pixels have NaN or infinite"),
        ({"images": Z.astype(complex)}, "pixels are complex128; use uint8"),
        ({"images": Z.astype(str)}, "pixels are <U"),
        ({"images": Z.astype(object)}, r"not a readable \.npz file"),
        ({"images": Z, "labels": np.arange(2)}, r"labels are int64 of shape \(2,\) for 3 images; use one"),
        ({"images": Z, "labels": np.zeros((3, 1, 1), int)}, r"labels are int64 of shape \(3, 1, 1\)"),
        ({"images": Z, "labels": np.zeros(3)}, "labels are float64"),
        (
            {"images": Z, "labels": np.array([0, -1, 1])},
            "the label of image 1 is -1, outside 0..65535; number classes from 0",
        ),
        (
            {"images": Z, "labels": np.arange(3), "classes": ["a", "b"]},
            r"the label of image 2 is 2, outside 0\.\.1; number .* and name all",
        ),
        (
            {"images": Z, "labels": np.arange(3), "classes": np.array("a")},
            r"the label of image 1 is 1, outside 0\.\.0, and so are 1 more",
        ),
        (
            {"images": Z, "labels": np.array([0, 2**64 - 1, 1], np.uint64)},
            r"image 1 is 18446744073709551615, outside",
        ),
        (
            {"images": Z, "classes": ["a", "b", "a", "b"]},
            "classes occur more than once: a, b; use a different name",
        ),
        ({"images": Z, "classes": ["a", ""]}, r"classes are <U1 \('a', ''\); use a name for every class"),
        ({"images": Z, "classes": [0.5]}, "classes are float64"),
        ({"images": Z, "classes": np.array([b"\xff"])}, "classes are not UTF-8"),
    ],
)
def test_npz_files_are_refused(tmp_path: Path, arrays: dict[str, object], message: str):
    path = npz(tmp_path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_data(path)
    assert caught.value.what.startswith(path)


def as_text(path: Path) -> None:
    path.write_text("hello")


def as_npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, Z)


def as_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [as_text, as_npy, as_half, as_flipped])
def test_damaged_npz(tmp_path: Path, damage: Callable[[Path], None]):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).normal(size=(3, 8, 8)))
    damage(path)
    with pytest.raises(
        InputError, match=r"data\.npz: not a readable \.npz file .*; write it with numpy\.savez"
    ):
        load_data(str(path))


# Normalising --------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=5, max_side=4)), st.data())
def test_normalise(images: NDArray[np.uint8], data: st.DataObject):
    channels = images.shape[-3]
    numbers = st.lists(st.floats(0.1, 2), min_size=channels, max_size=channels).map(tuple)
    mean, std = (data.draw(st.just(()) | numbers) for _ in range(2))
    y = normalise(images, mean, std)
    assert y.dtype == np.float64
    for place in np.ndindex(images.shape):
        c = place[-3]
        expected = (images[place] / 255 - (mean[c] if mean else 0)) / (std[c] if std else 1)
        assert y[place] == pytest.approx(expected, abs=1e-12)
    floats = images.astype(np.float32)
    np.testing.assert_array_equal(normalise(floats, (), ()), floats.astype(np.float64))


def test_select():
    data = LabelledImages(np.arange(8).reshape(4, 1, 2, 1), np.arange(4), tuple("abcd"), "here")
    part = data.select(np.array([3, 1]))
    np.testing.assert_array_equal(part.labels, [3, 1])
    np.testing.assert_array_equal(part.images[:, 0, 0, 0], [6, 2])
    assert (part.classes, part.source, len(part)) == (tuple("abcd"), "here", 2)
