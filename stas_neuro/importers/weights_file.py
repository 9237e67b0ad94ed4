"""Files of weights as torch and safetensors write them: described first, checked, and only then loaded.

A file is told by how it begins, not by its name. Reading it takes memory of its own length, tensors of at
most four times that or of 256 MiB, and up to 512 MiB for what its pickles describe. No code in it runs.
"""

from __future__ import annotations

import argparse
import io
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from stas_neuro.arrays import ZIP_DAMAGE
from stas_neuro.documents import BadDocument, open_file, parse_json, reason, shown
from stas_neuro.errors import InputError
from stas_neuro.importers.weights_machine import DAMAGE, Limited, Table
from stas_neuro.importers.weights_pickle import Form, Pickled, RunsCode
from stas_neuro.importers.weights_unwrap import AVERAGED, Taken, take
from stas_neuro.models.tensors import HEADER_LIMIT, open_tensors

Place = tuple[str, ...]
"""Keys of dicts within each other."""
_ZIP, _LEGACY = b"PK\3\4", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_VERSION = 1001
FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Dtypes of weights, as torch calls them."""
DIRECTORY_LIMIT = 1 << 24
"""Bytes of the directory of a zip: an entry takes 70."""
_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_END, _END64, _LOCATOR64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_AGAIN = "download or copy the file again"
_SAVE = "save model.state_dict() alone, or as safetensors, where you trust the file"


@dataclass(frozen=True)
class WeightsFile:
    """A file that has been described: `content` holds a `Form` wherever the file holds a tensor."""

    path: Path
    kind: str
    """"torch", "torch, legacy" or "safetensors"."""
    content: Table
    _load: Callable[[Place, Collection[str]], dict[str, Tensor]]

    def load(self, place: Place, names: Collection[str]) -> dict[str, Tensor]:
        """Load tensors of the dict at a place, on the CPU; InputError where torch finds them damaged."""
        try:
            return self._load(place, names)
        except (*DAMAGE, *ZIP_DAMAGE, pickle.UnpicklingError, AssertionError, AttributeError) as error:
            raise InputError(f"{self.path}: torch cannot read it ({reason(error)})", _AGAIN) from error


def describe(path: Path) -> WeightsFile:
    """Read what a file says of its tensors.

    Raises
    ------
    InputError
        If it is no file of weights, is damaged, is larger unpacked than what it holds, or has code in it.
    """
    try:
        stream = open_file(path)
    except (BadDocument, OSError) as error:
        raise InputError(f"{path}: {reason(error)}", "give a file of torch.save or safetensors") from error
    try:
        with stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            start = stream.read(len(_LEGACY))
            stream.seek(0)
            if start[: len(_ZIP)] == _ZIP:
                return WeightsFile(path, "torch", _described(_zip(stream, size)), _by_torch(path))
            if start == _LEGACY:
                return WeightsFile(path, "torch, legacy", _described(_legacy(stream, size)), _by_torch(path))
        if start[8:9] != b"{":
            raise BadDocument("is neither a file of torch.save nor safetensors")
        return WeightsFile(path, "safetensors", _safetensors(path), _by_safetensors(path))
    except RunsCode as error:
        raise InputError(f"{path}: {error}", _SAVE) from error
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _AGAIN) from error
    except ZIP_DAMAGE as error:
        raise InputError(f"{path}: damaged or truncated ({reason(error)})", _AGAIN) from error


def open_state(path: Path, averaged: bool) -> tuple[WeightsFile, Taken]:
    """Describe a file, and find the state_dict in it, or with `averaged` the moving average of one.

    Raises
    ------
    InputError
        As `describe`; or if there is no such dict of tensors, or several.
    """
    file = describe(path)
    try:
        taken = take(file.content, averaged)
    except BadDocument as error:
        raise InputError(
            f"{path}: {error}", "write the weights of the network to a file of their own"
        ) from error
    if averaged and not taken.averaged:
        names = ", ".join(AVERAGED)
        raise InputError(f"{path}: holds no moving average of weights (EMA) under {names}", "leave ema out")
    return file, taken


def _described(content: object) -> Table:
    if not isinstance(content, Table):
        raise BadDocument(f"holds a {type(content).__name__.lower()}, not a dict of tensors")
    return content


# torch, zip -------------------------------------------------------------------------------------------------


def _zip(stream: BinaryIO, size: int) -> object:
    _check_end(stream, size)
    with zipfile.ZipFile(stream) as archive:
        root, members = _members(archive, size)
        if f"{root}/constants.pkl" in members:
            raise RunsCode("is a TorchScript program, which is code")
        described = members.get(f"{root}/data.pkl")
        if described is None:
            raise BadDocument("holds no data.pkl, which torch.save writes")
        pickled = Pickled(size)
        with archive.open(described) as data:
            content = pickled.load(Limited(cast("BinaryIO", data)))
    for storage in pickled.storages.values():
        member = members.get(f"{root}/data/{storage.key}")
        if member is None or member.file_size != storage.size:
            there = "none" if member is None else f"{member.file_size}"
            key = shown(storage.key)
            raise BadDocument(f"describes {storage.size} bytes of the storage {key}, {there} are there")
    return content


def _check_end(stream: BinaryIO, size: int) -> None:
    """See that the directory is where all readers of zip files find it, and of a size that can be read."""
    end = size - _END.size
    signature, *_, length, start, comment = _at(stream, end, _END)
    if signature != b"PK\5\6" or comment:
        raise BadDocument("is truncated, or a zip file as torch does not write it")
    if end >= _LOCATOR64.size + _END64.size:
        locator, _, end64, _ = _at(stream, end - _LOCATOR64.size, _LOCATOR64)
        if locator == b"PK\6\7":
            end -= _LOCATOR64.size + _END64.size
            signature, *_, length, start = _at(stream, end, _END64)
            if signature != b"PK\6\6" or end64 != end:
                raise BadDocument("is a damaged zip file")
    if length > DIRECTORY_LIMIT or start + length != end:
        raise BadDocument(f"has a directory of {length} bytes at {start}, not before its end at {end}")
    stream.seek(0)


def _at(stream: BinaryIO, position: int, form: struct.Struct) -> tuple[Any, ...]:
    if position < 0:
        raise BadDocument("is a damaged zip file")
    stream.seek(position)
    return form.unpack(stream.read(form.size))


def _members(archive: zipfile.ZipFile, size: int) -> tuple[str, Mapping[str, zipfile.ZipInfo]]:
    """Give the folder that all files of an archive are in, and these by name."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name in members:
            raise BadDocument(f"holds {shown(name)!r} twice")
        parts = name.split("/")
        if len(parts) < 2 or "" in parts or ".." in parts or stat.S_ISLNK(info.external_attr >> 16):
            raise BadDocument(f"holds {shown(name)!r}, which is no name that torch writes")
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.flag_bits & 1
            or info.compress_size != info.file_size
        ):
            raise BadDocument(f"{shown(name)!r} is compressed or encrypted, which torch does not")
        members[name] = info
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1:
        raise BadDocument(f"holds {len(roots)} folders, a file of torch.save one")
    total = sum(info.file_size for info in members.values())
    if total > size:
        raise BadDocument(f"is to hold {total} bytes, and has {size}")
    return roots.pop(), members


# torch, legacy ----------------------------------------------------------------------------------------------


def _legacy(stream: BinaryIO, size: int) -> object:
    """Read a magic number, a version, facts of the system, the content, keys of storages, and these."""
    limited, pickled = Limited(stream), Pickled(size)
    pickled.load(limited)
    version = pickled.load(limited)
    if version != _LEGACY_VERSION:
        raise BadDocument(f"has the version {shown(str(version))}, torch writes {_LEGACY_VERSION}")
    pickled.load(limited)
    content = pickled.load(limited)
    keys = pickled.load(limited)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(pickled.storages):
        raise BadDocument("lists other storages than its tensors have")
    for key in keys:
        storage = pickled.storages[key]
        count = stream.read(8)
        if int.from_bytes(count, "little") != storage.count:
            raise BadDocument(f"describes {storage.count} elements of the storage {key}, other are there")
        if stream.seek(storage.size, io.SEEK_CUR) > size:
            raise BadDocument(f"ends within the storage {key}")
    if stream.tell() != size:
        raise BadDocument(f"has {size - stream.tell()} bytes after its last storage")
    return content


def _by_torch(path: Path) -> Callable[[Place, Collection[str]], dict[str, Tensor]]:
    def load(place: Place, names: Collection[str]) -> dict[str, Tensor]:
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with open_file(path) as stream, allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages, which torch itself makes in a way it deprecates
            content: Any = torch.load(stream, map_location="cpu", weights_only=True)
        for key in place:
            content = content[key]
        return {name: content[name].detach() for name in names}

    return load


# safetensors ------------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> Table:
    with open_file(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_LIMIT:
            raise BadDocument(f"has a header of {length} bytes, at most {HEADER_LIMIT} are read")
        parse_json(stream.read(length))  # safetensors takes one of two equal names
    content = Table()
    with open_tensors(path, _AGAIN) as file:
        for name, form in file.forms.items():
            content.put(name, Form(_SAFETENSORS_DTYPES.get(form.dtype, form.dtype), form.shape))
    return content


def _by_safetensors(path: Path) -> Callable[[Place, Collection[str]], dict[str, Tensor]]:
    def load(place: Place, names: Collection[str]) -> dict[str, Tensor]:
        with open_tensors(path, _AGAIN) as file:
            return file.tensors(names)

    return load
