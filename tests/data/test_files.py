"""Images in files of many kinds: what is read, also in parts, and what is refused."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from stas_neuro.data import Pixels, blocks, idx, load_data, numpy_files
from stas_neuro.data.stored import UnpackedPixels
from stas_neuro.errors import InputError
from stas_neuro.labels import bias_of_first

RNG = np.random.default_rng(0)
COLOUR: NDArray[np.uint8] = RNG.integers(0, 256, (12, 9, 7, 3), np.uint8)
LABELS = np.arange(12) % 3
FIRST = np.moveaxis(COLOUR, -1, 1)
"""The images with their channels first, as they are read."""


def same(data: Any, images: NDArray[Any], labels: NDArray[Any] | None) -> None:
    """Compare data with arrays: all images, some of them, single ones, and in another process."""
    assert data.images.shape == images.shape
    assert data.images.dtype == images.dtype
    np.testing.assert_array_equal(np.asarray(data.images), images)
    np.testing.assert_array_equal(np.concatenate(list(blocks(data.images, 5))), images)
    some = np.array([3, 1, 1, 0])
    np.testing.assert_array_equal(data.select(some).select(slice(1, 3)).images[:], images[[1, 1]])
    np.testing.assert_array_equal(data.images[2], images[2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).images[1:3], images[1:3])
    assert (data.labels is None) == (labels is None)
    if labels is not None:
        np.testing.assert_array_equal(data.labels, labels)


@pytest.fixture(params=[False, True], ids=["at-once", "in-parts"])
def in_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Read files of any size as large ones are."""
    if request.param:
        monkeypatch.setattr(numpy_files, "SMALL", 10)
        monkeypatch.setattr(idx, "SMALL", 10)
    return bool(request.param)


# Files of numpy, and IDX -----------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels"),
        ("x", "y"),
        ("x_test", "y_test"),
        ("test_images", "test_labels"),
        ("X_test", "Y_test"),
    ],
    ids=lambda names: names[0],
)
def test_npz(tmp_path: Path, in_parts: bool, save: Any, names: tuple[str, str]):
    save(tmp_path / "data.npz", **dict(zip(names, (COLOUR, LABELS), strict=True)))
    data = load_data(str(tmp_path / "data.npz"))
    assert isinstance(data.images, Pixels) == in_parts
    same(data, FIRST, LABELS)


def test_parts_of_an_npz_file(tmp_path: Path):
    path = str(tmp_path / "data.npz")
    np.savez(path, x_train=COLOUR, y_train=LABELS, x_val=COLOUR[:2], y_val=LABELS[:2])
    assert (len(load_data(path, "train")), len(load_data(path))) == (12, 2)
    np.savez(path, COLOUR, LABELS)
    same(load_data(path), FIRST, LABELS)
    np.savez(path, x_train=COLOUR)
    with pytest.raises(InputError, match="has no test images; its arrays are x_train; add images_test"):
        load_data(path)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (COLOUR.astype(np.int32), FIRST),
        (FIRST.astype(np.int64), FIRST),
        (COLOUR.astype(">u2"), FIRST),
        (COLOUR[..., :1] > 99, (FIRST[:, :1] > 99) * np.uint8(255)),
        (COLOUR[..., 0], FIRST[:, :1]),
        ((COLOUR / 255).astype(np.float32), (FIRST / 255).astype(np.float32).astype(np.float64)),
        (COLOUR[:, None].repeat(2, 1)[..., :2], FIRST[:, None, :2].repeat(2, 1)),
    ],
    ids=["int32", "channels-first", "big-endian", "bool", "no-channels", "floats", "events"],
)
def test_forms_of_images(tmp_path: Path, in_parts: bool, stored: NDArray[Any], read: NDArray[Any]):
    np.save(tmp_path / "images.npy", stored)
    np.save(tmp_path / "labels.npy", LABELS)
    for path in (tmp_path, tmp_path / "images.npy"):
        same(load_data(str(path)), read, LABELS)


def test_npy_files_of_parts(tmp_path: Path):
    for part, count in (("train", 12), ("test", 4)):
        np.save(tmp_path / f"x_{part}.npy", COLOUR[:count])
        np.save(tmp_path / f"y_{part}.npy", LABELS[:count])
    assert [len(load_data(str(tmp_path), part)) for part in ("train", "test")] == [12, 4]
    same(load_data(str(tmp_path / "x_test.npy"), "train"), FIRST[:4], LABELS[:4])


def test_large_fortran_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "images.npy", np.asfortranarray(COLOUR))
    same(load_data(str(tmp_path)), FIRST, None)
    monkeypatch.setattr(numpy_files, "SMALL", 10)
    with pytest.raises(
        InputError, match=r"in Fortran order, in which none can be read alone; save numpy.ascont"
    ):
        load_data(str(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path: Path, in_parts: bool, packed: bool):
    for name, array in (("images-idx3", COLOUR[..., 0]), ("labels-idx1", LABELS.astype(np.uint8))):
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        path = tmp_path / f"t10k-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    same(load_data(str(tmp_path)), FIRST[:, :1], LABELS)


def test_packed_images_are_unpacked_as_far_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numpy_files, "SMALL", 10)
    monkeypatch.setattr("stas_neuro.data.stored._PART", 100)
    path = tmp_path / "data.npz"
    many = RNG.integers(0, 256, (200, 1, 40, 40), np.uint8)
    np.savez_compressed(path, images=many)
    images = load_data(str(path)).images.source  # type: ignore[union-attr]
    assert isinstance(images, UnpackedPixels)
    np.testing.assert_array_equal(images[:2], many[:2])
    assert images._done < many[:4].nbytes
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    damaged = load_data(str(path))
    with pytest.raises(InputError, match=r"data\.npz: damaged .*; write the file again"):
        damaged.images[:]


def test_a_file_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numpy_files, "SMALL", 10)
    np.save(tmp_path / "images.npy", FIRST)
    data = load_data(str(tmp_path))
    (tmp_path / "images.npy").write_bytes((tmp_path / "images.npy").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"images\.npy: ends before its last image; write the file again"):
        data.images[:]
    with pytest.raises(InputError, match="bytes of data"):
        load_data(str(tmp_path))


def test_pixels_of_large_files_are_checked_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(numpy_files, "SMALL", 10)
    np.save(tmp_path / "images.npy", np.concatenate([FIRST[:9], np.full((3, 3, 9, 7), 999)]))
    data = load_data(str(tmp_path))
    np.testing.assert_array_equal(data.images[:9], FIRST[:9])
    with pytest.raises(InputError, match=r"pixels are int64 in \d\.\.999; scale them to 0\.\.255"):
        data.images[:]


# Labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.eye(3)[LABELS], ()),
        (np.eye(3, dtype=bool)[LABELS], ()),
        (LABELS[:, None], ()),
        (np.array(["cat", "dog", "owl"])[LABELS], ("cat", "dog", "owl")),
        (np.array([b"cat", b"dog", b"owl"])[LABELS], ("cat", "dog", "owl")),
    ],
    ids=["one-hot", "bools", "column", "names", "bytes"],
)
def test_forms_of_labels(tmp_path: Path, labels: NDArray[Any], classes: tuple[str, ...]):
    np.savez(tmp_path / "data.npz", images=COLOUR, labels=labels)
    data = load_data(str(tmp_path / "data.npz"))
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.classes == classes


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.full((12, 3), 0.5), None, "those of image 0 are not one-hot; use one integer or one name"),
        (np.eye(3)[LABELS], ["a", "b"], "one-hot labels are of 3 classes, but 2 are named"),
        (
            np.array(["a", "b", "c"])[LABELS],
            ["a", "b"],
            "the label of image 2 is 'c', which is not one of its",
        ),
        (
            np.array(["a", "\x1b[31m", "c"])[LABELS],
            None,
            r"class name '\\x1b\[31m' has unprintable characters",
        ),
    ],
)
def test_labels_that_are_refused(
    tmp_path: Path, labels: NDArray[Any], classes: list[str] | None, message: str
):
    arrays: dict[str, Any] = {"images": COLOUR, "labels": labels}
    np.savez(tmp_path / "data.npz", **arrays | ({} if classes is None else {"classes": classes}))
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path / "data.npz"))


# Image folders ---------------------------------------------------------------------------------------------


def folders(directory: Path, grey: bool = False, ending: str = "png") -> NDArray[np.uint8]:
    """Write an image folder, and return its images in the order in which they are read."""
    for number, (image, label) in enumerate(zip(COLOUR, LABELS, strict=True)):
        place = directory / "bdc"[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if grey else image).save(place / f"{number:02}.{ending}")
    order = np.argsort(np.array([0, 2, 1])[LABELS], kind="stable").reshape(3, 4).T.ravel()  # they alternate
    return FIRST[order][:, :1] if grey else FIRST[order]


@pytest.mark.parametrize("grey", [False, True])
def test_image_folders(tmp_path: Path, grey: bool):
    images = folders(tmp_path, grey)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    data = load_data(str(tmp_path))
    assert data.classes == ("b", "c", "d")
    same(data, images, np.tile([0, 1, 2], 4))


def test_parts_of_an_image_folder(tmp_path: Path):
    images = folders(tmp_path / "train")
    folders(tmp_path / "val")
    (tmp_path / "val" / "d" / "01.png").unlink()
    same(load_data(str(tmp_path), "train"), images, np.tile([0, 1, 2], 4))
    assert len(load_data(str(tmp_path))) == 11
    same(load_data(str(tmp_path / "train" / "b")), images[::3], None)  # images without folders have no labels


def test_images_of_other_forms(tmp_path: Path):
    folders(tmp_path)
    grey = tmp_path / "b" / "03.png"
    Image.fromarray(COLOUR[3][..., 0]).save(grey)
    np.testing.assert_array_equal(
        load_data(str(tmp_path)).images[3], np.repeat(COLOUR[3][..., 0][None], 3, 0)
    )
    Image.fromarray(COLOUR[3]).convert("P").save(grey)
    assert load_data(str(tmp_path)).images[3].shape == (3, 9, 7)
    Image.fromarray(COLOUR[3][:5]).save(grey)
    with pytest.raises(
        InputError, match=r"03\.png: has 7 x 5 pixels, .*00\.png has 7 x 9; scale or crop all"
    ):
        load_data(str(tmp_path)).images[:]
    Image.fromarray(COLOUR[3]).save(grey)
    grey.write_bytes(grey.read_bytes()[:60])
    with pytest.raises(InputError, match=r"03\.png: not a readable image .*; save it again, or remove it"):
        load_data(str(tmp_path)).images[:]
    Image.fromarray(COLOUR[3].astype(np.uint16)[..., 0] * 256).save(grey)
    with pytest.raises(InputError, match=r"pixels are of Pillow's mode I;16; convert it to 8 bits"):
        load_data(str(tmp_path)).images[:]
    Image.fromarray(COLOUR[3]).save(grey)
    data = load_data(str(tmp_path))
    grey.unlink()
    with pytest.raises(InputError, match=r"03\.png: No such file or directory; restore the file"):
        data.images[:]


def test_colours_after_a_grey_image(tmp_path: Path):
    folders(tmp_path)
    Image.fromarray(COLOUR[0][..., 0]).save(tmp_path / "b" / "00.png")
    with pytest.raises(
        InputError, match=r"has colours, .* has none; convert all images to grey, or all to RGB"
    ):
        load_data(str(tmp_path)).images[:]


def test_names_of_folders_are_shown_escaped(tmp_path: Path):
    folders(tmp_path / "data")
    (tmp_path / "data" / "b").rename(tmp_path / "data" / "b\x1b[31m")
    with pytest.raises(InputError) as caught:
        load_data(str(tmp_path / "data"))
    assert str(caught.value).isprintable()
    assert "class name 'b\\x1b[31m' has unprintable characters" in str(caught.value)


def test_images_beside_the_folders_of_classes_are_refused(tmp_path: Path):
    folders(tmp_path)
    (tmp_path / "b" / "00.png").rename(tmp_path / "lost.png")
    with pytest.raises(InputError, match=r"lost\.png: is beside the folders of the classes b, c, d, in none"):
        load_data(str(tmp_path))
    (tmp_path / "lost.png").rename(tmp_path / "b" / "deep.png")
    assert len(load_data(str(tmp_path))) == len(FIRST)


def test_images_beside_the_folders_of_parts_are_refused(tmp_path: Path):
    folders(tmp_path / "train")
    for name in ("one.png", "two.png"):
        Image.fromarray(COLOUR[0]).save(tmp_path / name)
    with pytest.raises(
        InputError, match=r"one\.png \(the first of 2 such files\): is beside the folder train, in no part"
    ):
        load_data(str(tmp_path), "train")
    (tmp_path / "one.png").unlink()
    (tmp_path / "two.png").rename(tmp_path / "two.txt")
    assert len(load_data(str(tmp_path), "train")) == len(FIRST)


def test_the_first_files_are_of_every_class_in_its_share(tmp_path: Path):
    for name, count in {"few": 3, "many": 9, "none": 0, "some": 6}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.fromarray(np.full((2, 2), number, np.uint8)).save(tmp_path / name / f"{number}.png")
    data = load_data(str(tmp_path))
    assert data.labels is not None
    np.testing.assert_array_equal(np.bincount(data.labels[:6]), [1, 3, 0, 2])
    for label, count in enumerate([3, 9, 0, 6]):
        np.testing.assert_array_equal(data.images[:][data.labels == label, 0, 0, 0], range(count))
    assert bias_of_first(data, 6) is None


def test_directories_without_images(tmp_path: Path):
    with pytest.raises(InputError, match="is a directory without images; use a directory of IDX files"):
        load_data(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="has no folder test, only train"):
        load_data(str(tmp_path))


# Data sets of Hugging Face ---------------------------------------------------------------------------------


def save_to_disk(directory: Path, columns: dict[str, Any], features: dict[str, Any], shards: int = 2) -> None:
    """Write what Dataset.save_to_disk writes."""
    directory.mkdir(parents=True)
    table = pa.table(columns)
    names = [f"data-{shard:05}-of-{shards:05}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        rows = -(-len(table) // shards)
        with pa.OSFile(str(directory / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(shard * rows, rows), max_chunksize=4)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (directory / "state.json").write_text(json.dumps(state))
    (directory / "dataset_info.json").write_text(json.dumps({"features": features}))


def encoded(image: NDArray[np.uint8], directory: Path) -> dict[str, Any]:
    path = directory / "one.png"
    Image.fromarray(image).save(path)
    return {"bytes": path.read_bytes(), "path": None}


IMAGE = {"_type": "Image"}
CLASSES = {"_type": "ClassLabel", "names": ["a", "b", "c"]}


def test_data_sets_of_hugging_face(tmp_path: Path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([encoded(image, tmp_path) for image in COLOUR], kind)
    columns = {"label": pa.array(LABELS), "img": rows}
    save_to_disk(tmp_path / "hf" / "train", columns, {"img": IMAGE, "label": CLASSES})
    secret = {"img": rows, "label": pa.array(np.full(12, -1))}
    save_to_disk(tmp_path / "hf" / "test", secret, {"img": IMAGE, "label": CLASSES})
    (tmp_path / "hf" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for data in (load_data(str(tmp_path / "hf"), "train"), load_data(str(tmp_path / "hf" / "train"))):
        same(data, FIRST, LABELS)
        assert data.classes == ("a", "b", "c")
    assert load_data(str(tmp_path / "hf")).labels is None


def test_arrays_of_hugging_face(tmp_path: Path):
    columns = {"x": pa.array(COLOUR.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))}
    save_to_disk(tmp_path / "hf", columns, {"x": {"_type": "Array3D", "shape": [9, 7, 3], "dtype": "uint8"}})
    same(load_data(str(tmp_path / "hf")), FIRST, None)


def test_damaged_data_sets_of_hugging_face(tmp_path: Path):
    place = tmp_path / "hf"
    save_to_disk(place, {"text": pa.array(["a"])}, {})
    with pytest.raises(InputError, match="has no column of images, only text"):
        load_data(str(place))
    (place / "state.json").write_text('{"_data_files": [{"filename": "../secret"}]}')
    with pytest.raises(InputError, match="lists no files of its directory"):
        load_data(str(place))
    (place / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    (place / "data.arrow").write_bytes(b"not arrow at all")
    with pytest.raises(InputError, match="save it again with save_to_disk"):
        load_data(str(place))
    (place / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json: is not JSON"):
        load_data(str(place))
