"""HDF5 files that read other files, ask for more than they hold, or keep their reader busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError
from stas_neuro.importers import hdf5_child, hdf5_file
from stas_neuro.importers.hdf5_child import read_arrays
from stas_neuro.importers.nir_file import read_network, read_network_here

SECRET = b"not for others "


def fill(file: Any) -> Any:
    """Write a valid network of two nodes; gives the group of its nodes."""
    text = h5py.string_dtype()
    file.create_dataset("version", data="1.0.8", dtype=text)
    network = file.create_group("node")
    network.create_dataset("type", data="NIRGraph", dtype=text)
    network.create_dataset("edges", data=[["input", "output"]], dtype=text)
    nodes = network.create_group("nodes")
    for name, kind in (("input", "Input"), ("output", "Output")):
        node = nodes.create_group(name)
        node.create_dataset("type", data=kind, dtype=text)
        node.create_dataset("shape", data=np.array([2]))
    return nodes


def external(nodes: Any, secret: Path) -> None:
    nodes["input"].create_dataset("secret", (15,), np.uint8, external=[(str(secret), 0, 15)])


def soft(nodes: Any, secret: Path) -> None:
    nodes["again"] = h5py.SoftLink("/node/nodes")


def to_another_file(nodes: Any, secret: Path) -> None:
    nodes["again"] = h5py.ExternalLink(str(secret), "/")


def cycle(nodes: Any, secret: Path) -> None:
    nodes["again"] = nodes.parent


def twice(nodes: Any, secret: Path) -> None:
    nodes["again"] = nodes["input"]


def virtual(nodes: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout(shape=(15,), dtype=np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "data", shape=(15,))
    nodes["input"].create_virtual_dataset("secret", layout)


def huge(nodes: Any, secret: Path) -> None:
    nodes["input"].create_dataset("weight", (1 << 20, 1 << 18), np.float64)


def huge_chunks(nodes: Any, secret: Path) -> None:
    nodes["input"].create_dataset(
        "weight", (4,), np.float64, chunks=(1 << 28,), maxshape=(None,), compression="gzip"
    )


def bomb(nodes: Any, secret: Path) -> None:
    weight = nodes["input"].create_dataset(
        "weight", (1 << 27,), np.uint8, chunks=(1 << 22,), compression="gzip"
    )
    weight[: 1 << 22] = 0


def other_filter(nodes: Any, secret: Path) -> None:
    nodes["input"].create_dataset("weight", data=np.zeros(100), compression="lzf")


def deep(nodes: Any, secret: Path) -> None:
    nodes.create_group("/".join("abcdefghijk"))


def many(nodes: Any, secret: Path) -> None:
    for index in range(hdf5_child.OBJECTS_LIMIT):
        nodes.create_group(f"g{index}")


def many_texts(nodes: Any, secret: Path) -> None:
    nodes.create_dataset("texts", (hdf5_child.STRINGS_LIMIT,), h5py.string_dtype())


def compound(nodes: Any, secret: Path) -> None:
    nodes.create_dataset("weight", data=np.zeros(2, [("a", "f8"), ("b", "i4")]))


def reference(nodes: Any, secret: Path) -> None:
    nodes.create_dataset("weight", (2,), h5py.ref_dtype)


def named_type(nodes: Any, secret: Path) -> None:
    nodes["kind"] = np.dtype("f8")


def empty(nodes: Any, secret: Path) -> None:
    nodes["input"].create_dataset("weight", data=h5py.Empty("f8"))


def unprintable(nodes: Any, secret: Path) -> None:
    nodes.create_group("a\nb")


HOSTILE: dict[Callable[[Any, Path], None], str] = {
    external: "node/nodes/input/secret: keeps its values in another file",
    soft: "node/nodes/again: is a link to another place",
    to_another_file: "node/nodes/again: is a link to another place",
    cycle: "node/nodes/again: is an object that is linked twice",
    twice: "is an object that is linked twice",
    virtual: "node/nodes/input/secret: is a virtual dataset",
    huge: "unpacks to 219902",
    huge_chunks: "unpacks to 2147",
    bomb: "unpacks to 134",
    other_filter: "is compressed by another filter",
    deep: "is nested more than 6 deep",
    many: "has more than 50000 objects",
    many_texts: "texts, the limit is 100000",
    compound: "no numbers or texts",
    reference: "no numbers or texts",
    named_type: "node/nodes/kind: is neither a group nor a dataset",
    empty: "node/nodes/input/weight: is empty",
    unprintable: "a name has characters that cannot be printed",
}


def write(path: Path, change: Callable[[Any, Path], None] | None = None) -> Path:
    secret = path.with_name("secret")
    secret.write_bytes(SECRET)
    with h5py.File(path, "w", libver="latest" if change is many else "earliest") as file:
        nodes = fill(file)
        if change is not None:
            change(nodes, secret)
    return path


def test_the_valid_file_is_read(tmp_path: Path) -> None:
    assert read_network(write(tmp_path / "a.nir")).edges == (("input", "output"),)


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_hostile_files_are_refused_before_they_are_read(
    change: Callable[[Any, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change is many:
        monkeypatch.setattr(hdf5_child, "OBJECTS_LIMIT", 50)
    path = write(tmp_path / "a.nir", change)
    text = HOSTILE[change].replace("50000", str(hdf5_child.OBJECTS_LIMIT))
    start = time.process_time()
    with pytest.raises(BadDocument, match=text):
        read_arrays(path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("change", [external, huge], ids=lambda change: change.__name__)
def test_the_child_tells_why(change: Callable[[Any, Path], None], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"a.nir: .*{HOSTILE[change]}.*; use a file that nir.write wrote"):
        read_network(write(tmp_path / "a.nir", change))


def test_the_child_runs_no_code_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.nir")
    (tmp_path / "h5py.py").write_text("raise SystemExit('code was run')")
    monkeypatch.chdir(tmp_path)
    assert read_network(Path(path.name)).edges == (("input", "output"),)


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_file, "DEADLINE", 0.01)
    with pytest.raises(InputError, match=r"reading it takes more than 0\.01 s"):
        read_network(write(tmp_path / "a.nir"))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    with pytest.raises(InputError, match=r"a\.nir: No such file"):
        read_network(path)
    with pytest.raises(InputError, match="is a directory"):
        read_network(tmp_path)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="is no readable HDF5 file"):
        read_network(path)
    with h5py.File(path, "w") as file:
        file.create_group("node")
    with pytest.raises(InputError, match="node/type: is missing"):
        read_network_here(path)


def test_networks_that_are_none(tmp_path: Path) -> None:
    def change(place: str, value: Any) -> Path:
        path = write(tmp_path / "a.nir")
        with h5py.File(path, "a") as file:
            if place in file:
                del file[place]
            if value is not None:
                file[place] = value
        return path

    for place, value, text in (
        ("node/type", "Affine", "node/type: is 'Affine', not NIRGraph"),
        ("node/edges", None, "node/edges: is missing"),
        ("node/edges", np.zeros((2, 2)), "node/edges: is missing, or no list of pairs"),
        ("node/edges", [["input", "elsewhere"]], "there is no node 'elsewhere'"),
        ("node/edges", [["input", "output"]] * 2, "has an edge twice"),
        ("node/nodes/input/type", None, "node/nodes/input/type: is missing"),
        ("node/nodes/input/nodes/x", 1, "is a network inside the network"),
    ):
        with pytest.raises(InputError, match=text):
            read_network_here(change(place, value))
