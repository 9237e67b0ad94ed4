"""Files of weights from strangers: one line of error, no code run, and no more memory than is stated."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from support.foreign_models import STYLES, Foreign

from stas_neuro.errors import InputError
from stas_neuro.importers.weights import open_weights
from stas_neuro.importers.weights_machine import PICKLE_LIMIT

LEGACY = {"_use_new_zipfile_serialization": False}


def state() -> dict[str, torch.Tensor]:
    return dict(Foreign(STYLES["Spikformer, CIFAR"], depth=1).state_dict())


def torch_file(content: object, **how: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **how)
    return stream.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def repickled(change: Callable[[bytes], bytes], content: object = None) -> bytes:
    """A file of torch with another pickle."""
    files = members(torch_file(state() if content is None else content))
    return zipped({name: change(data) if name.endswith("data.pkl") else data for name, data in files.items()})


class Evil:
    """Makes a file named `evil_was_run` where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("evil_was_run",)


class Calls:
    """What calls something else that torch's own restricted unpickler allows, and gives it memory."""

    def __init__(self, called: object, *arguments: object) -> None:
        self._call = called, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self._call


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"\x80\x02N."))
    return stream.getvalue()


def _view(shape: tuple[int, ...], strides: tuple[int, ...], start: int = 0) -> bytes:
    """A tensor of 4 elements that says it is another view of its storage."""
    before = b"K\0K\4\x85q\x08K\x01\x85q\t"

    def number(value: int) -> bytes:
        raw = value.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + raw

    def lengths(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    content = repickled(
        lambda data: data.replace(before, number(start) + lengths(shape) + lengths(strides)),
        {"a": torch.arange(4.0)},
    )
    assert before not in content
    return content


def _legacy_with(before: bytes, after: bytes) -> bytes:
    content = torch_file({"a": torch.arange(4.0)}, **LEGACY)
    assert content.count(before) >= 1
    return content.replace(before, after)


def _symlink() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members(torch_file(state())).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name.endswith("data/0") else 0o644) << 16
            archive.writestr(info, content)
    return stream.getvalue()


def _twice() -> bytes:
    """Two members of one name."""
    files = members(torch_file(state()))
    content = zipped({**files, "archive/data/x": files["archive/data/0"]})
    return content.replace(b"archive/data/x", b"archive/data/0")


def _safetensors_twice() -> bytes:
    tensor = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + tensor + b"," + tensor + b"}"
    return len(header).to_bytes(8, "little") + header + bytes(4)


def _end(**changes: int) -> bytes:
    """A zip file whose last record says something else of the directory."""
    content = zipped(members(torch_file(state())))
    names = ("disk", "first", "here", "count", "length", "start", "comment")
    fields = dict(zip(names, struct.unpack("<4H2LH", content[-18:]), strict=True))
    return content[:-18] + struct.pack("<4H2LH", *(fields | changes).values())


PARTS = members(torch_file(state()))
ROOT = next(iter(PARTS)).split("/")[0]
TWO = OrderedDict(a=torch.zeros(2), b=torch.zeros(3))
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is neither a file of torch.save nor safetensors"),
    "a pointer of Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "is neither"),
    "a page": (lambda: b"<!DOCTYPE html>" * 100, "is neither a file of torch.save nor safetensors"),
    "a tar of an old torch": (_tar, "is neither a file of torch.save nor safetensors"),
    "a bare pickle": (lambda: pickle.dumps(Evil(), 2), "is neither a file of torch.save nor safetensors"),
    # Code
    "runs code": (
        lambda: torch_file({**state(), "x": Evil()}),
        "names posix.mkdir, which is no part of plain",
    ),
    "runs code, legacy": (
        lambda: torch_file({"x": Evil()}, **LEGACY),
        "names posix.mkdir, which is no part of",
    ),
    "runs code before": (
        lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Evil(), 2),
        "names posix.mkdir",
    ),
    "runs code in a list": (lambda: torch_file({"args": [[Evil()]], **state()}), "names posix.mkdir"),
    "runs code in a key": (
        lambda: repickled(lambda p: p[:-1] + b"(cposix\nmkdir\n(X\1\0\0\0xtRd."),
        "names posix.mkdir",
    ),
    "runs code by INST": (
        lambda: repickled(lambda p: b"(S'x'\niposix\nmkdir\n."),
        "has the opcode b'S', which torch",
    ),
    "runs code, protocol 4": (
        lambda: torch_file(Evil(), pickle_protocol=4),
        "has protocol 4, torch writes 2",
    ),
    "calls a value": (lambda: repickled(lambda p: b"\x80\x02X\1\0\0\0a)R."), "calls what cannot be called"),
    "calls a storage": (
        lambda: repickled(lambda p: b"\x80\x02ctorch\nFloatStorage\n)R."),
        "which cannot be called",
    ),
    "a whole module": (lambda: torch_file(torch.nn.Linear(2, 2)), "names torch.nn.modules.linear.Linear"),
    "TorchScript": (
        lambda: zipped({**PARTS, f"{ROOT}/constants.pkl": b"\x80\x02)."}),
        "is a TorchScript program",
    ),
    # Memory
    "a bytearray of TBs": (lambda: torch_file(Calls(bytearray, 1 << 42)), "names __builtin__.bytearray"),
    "a tensor of TBs": (lambda: torch_file(Calls(torch.FloatTensor, 1 << 40)), "names torch.FloatTensor"),
    "a large storage": (
        lambda: repickled(
            lambda p: p.replace(b"K\4tq\7Q", b"J\xff\xff\xff\x7ftq\7Q"), {"a": torch.arange(4.0)}
        ),
        "has a storage of 2147483647 elements of float32, the file has",
    ),
    "a storage that is not all there": (
        lambda: repickled(lambda p: p.replace(b"K\4tq\7Q", b"K\5tq\7Q"), {"a": torch.arange(4.0)}),
        "describes 20 bytes of the storage 0, 16 are there",
    ),
    "a storage that is not there": (
        lambda: zipped({name: data for name, data in PARTS.items() if not name.endswith("data/3")}),
        "of the storage 3, none are there",
    ),
    "a large storage, legacy": (
        lambda: _legacy_with(b"K\4Nt", b"J\xff\xff\xff\x7fNt"), "has a storage of 2147483647 elements"
    ),
    "a storage of another length, legacy": (
        lambda: _legacy_with(b"K\4Nt", b"K\5Nt"),
        "describes 5 elements of the storage",
    ),
    "bytes behind the last storage, legacy": (
        lambda: torch_file(TWO, **LEGACY) + b"1",
        "has 1 bytes after its last",
    ),
    "a large view": (lambda: _view((1 << 60,), (1,)), "in a storage of 4 elements"),
    "a view beyond its storage": (
        lambda: _view((2, 2), (3, 1)),
        "with strides (3, 1) from 0 on in a storage of 4",
    ),
    "a view that starts behind": (lambda: _view((2,), (1,), 3), "from 3 on in a storage of 4 elements"),
    "a view that goes back": (lambda: _view((4,), (-1,), 3), "are no whole numbers of at least 0"),
    "an expanded view": (lambda: _view((1 << 40,), (0,)), "its tensors take more than 268435456 bytes"),
    "many axes": (lambda: _view((1,) * 17, (1,) * 17), "holds a tensor of 17 axes with 17 strides"),
    "a long pickle": (
        lambda: repickled(lambda p: b"\x80\x02(" + b"N" * PICKLE_LIMIT + b"t."),
        "its pickle has more than 2097152 bytes",
    ),
    "a text of GBs": (lambda: repickled(lambda p: b"\x80\x02X\xff\xff\xff\xff."), "its pickle has more than"),
    "a line without end": (
        lambda: repickled(lambda p: b"\x80\x02c" + b"a" * 10**6),
        "a line that does not end",
    ),
    "compressed": (
        lambda: zipped({**PARTS, f"{ROOT}/data/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
        "is compressed or",
    ),
    "a large directory": (
        lambda: _end(count=1 << 15, here=1 << 15, length=DIRECTORY, start=0), "has a directory of"
    ),
    "a directory elsewhere": (lambda: _end(start=4), "has a directory of"),
    "bytes in front": (lambda: b"PK\3\4" + zipped(PARTS), "has a directory of"),
    "bytes behind": (lambda: zipped(PARTS) + b"\0", "is truncated, or a zip file as torch does not write it"),
    # Names
    "an absolute name": (
        lambda: zipped({**PARTS, "/tmp/evil": b""}),
        "holds '/tmp/evil', which is no name that torch",
    ),
    "a name outside": (
        lambda: zipped({**PARTS, f"{ROOT}/../evil": b""}),
        "which is no name that torch writes",
    ),
    "a link": (_symlink, "data/0', which is no name that torch writes"),
    "another folder": (
        lambda: zipped({**PARTS, "other/data/0": b""}),
        "holds 2 folders, a file of torch.save one",
    ),
    "no pickle": (lambda: zipped({f"{ROOT}/version": b"3"}), "holds no data.pkl"),
    "a name twice": (_twice, "holds 'archive/data/0' twice"),
    "a key twice": (
        lambda: repickled(lambda p: p.replace(b"bq", b"aq"), TWO),
        "holds the key 'a' twice in a dict",
    ),
    "a key twice, safetensors": (_safetensors_twice, "has the key 'a' twice in an object"),
    # Damage
    "an empty stack": (lambda: repickled(lambda p: b"\x80\x020."), "has the opcode b'0'"),
    "pops nothing": (lambda: repickled(lambda p: b"\x80\x02R."), "its pickle is damaged"),
    "recalls nothing": (lambda: repickled(lambda p: b"\x80\x02h\7."), "its pickle is damaged"),
    "a list as key": (lambda: repickled(lambda p: b"\x80\x02}]Ns."), "its pickle is damaged"),
    "a dict in itself": (
        lambda: repickled(lambda p: b"\x80\x02}q\0X\5\0\0\0modelh\0s."),
        "more than 4 levels",
    ),
    "a number for a dict": (lambda: repickled(lambda p: b"\x80\x02NNNs."), "adds a key to what is no dict"),
    "a safetensors header of GBs": (
        lambda: struct.pack("<Q", 1 << 40) + b"{}",
        "has a header of 1099511627776 bytes",
    ),
    "a safetensors file cut": (lambda: save({"a": torch.zeros(9)})[:-1], "damaged or truncated"),
}  # fmt: skip
DIRECTORY = 1 << 25


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, expected = HOSTILE[case]
    path = tmp_path / "w.pth"
    path.write_bytes(make())
    with pytest.raises(InputError) as caught:
        open_weights(path, arch="spikformer", heads=2)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and expected in message, message
    assert "\n" not in message and len(message) < 700
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_file_cut_anywhere_is_refused(form: str, tmp_path: Path) -> None:
    weights = state()
    content = (
        save(weights)
        if form == "safetensors"
        else torch_file(weights, **(LEGACY if form == "legacy" else {}))
    )
    path = tmp_path / "w.pth"
    cuts = sorted({*range(0, 200, 7), *range(200, len(content), 1499), len(content) - 1})
    for length in cuts:
        path.write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            open_weights(path, arch="spikformer", heads=2)
        assert str(caught.value).startswith(f"{path}: "), length
    path.write_bytes(content)
    assert open_weights(path, arch="spikformer", heads=2).report.naming == "Spikformer, CIFAR"


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0"), (b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")],
)
def test_files_saved_on_a_gpu_are_read(before: bytes, after: bytes, tmp_path: Path) -> None:
    zipped_, legacy = repickled(lambda p: p.replace(before, after)), torch_file(state(), **LEGACY)
    assert legacy.count(before)
    for name, content in (("zip", zipped_), ("legacy", legacy.replace(before, after))):
        (tmp_path / name).write_bytes(content)
        opened = open_weights(tmp_path / name, arch="spikformer", heads=2)
        assert opened.report.naming == "Spikformer, CIFAR"


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, expected in (
        (tmp_path, "is a directory"),
        (tmp_path / "pipe", "is a pipe or a device"),
        (tmp_path / "none.pth", "No such file"),
    ):
        with pytest.raises(InputError) as caught:
            open_weights(path, arch="spikformer", heads=2)
        assert str(caught.value).startswith(f"{path}: ") and expected in str(caught.value)
        assert str(caught.value).endswith("; give a file of torch.save or safetensors")


MEASURE = """
import resource, sys
from pathlib import Path
from stas_neuro.errors import InputError
from stas_neuro.importers import weights_graph  # torch first
from stas_neuro.importers.weights import open_weights
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        open_weights(path, arch="spikformer", heads=2)
    except InputError:
        continue
    print(path.name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
MANY = PICKLE_LIMIT - 60_000


def _beside(values: bytes) -> bytes:
    """Weights that can be opened, beside a tuple of so many values."""

    def change(data: bytes) -> bytes:
        return data[:2] + b"}(X\5\0\0\0model" + data[2:-1] + b"X\1\0\0\0x(" + values + b"tu."

    return repickled(change)


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Also by pickles that make as many values as they may: docs/importing-weights.md states the bound."""
    files = {str(number): make() for number, (make, _) in enumerate(HOSTILE.values())}
    files |= {"lists": _beside(b"]" * MANY), "dicts": _beside(b"}" * MANY)}
    calls = b"ccollections\nCounter\nr\xff\xff\0\0" + b")R" + b"j\xff\xff\0\0)R" * (MANY // 7 - 10)
    files["calls"] = _beside(calls)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    largest = max(map(len, files.values()))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True
    )
    *accepted, taken = done.stdout.split()
    assert accepted == ["calls", "dicts", "lists"]
    assert int(taken) * 1024 < largest + (512 << 20)
