"""ONNX files, read so that a damaged or hostile one costs no more than its length.

A file is scanned before Protobuf parses it, as an empty message takes two bytes there and a hundred times as
many in memory. Tensors in other files are refused, so that nothing but the file itself is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.documents import BadDocument, one_line
from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx.refusals import FILE_LIMIT
from stas_neuro.extras import needs
from stas_neuro.files import read_bytes

if TYPE_CHECKING:
    import onnx

PARTS_LIMIT = 1_000_000
"""Messages and entries of lists in a file; each takes up to 200 bytes of memory."""
DEPTH_LIMIT = 64
"""Messages inside messages; Protobuf refuses a hundred."""
_REMEDY = "use an ONNX file as onnx.save writes it, with all tensors inside"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = ("onnx.TensorProto.external_data", "onnx.TensorProto.data_location")


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; nothing of what it says is checked yet.

    Raises
    ------
    InputError
        When onnx or the file is missing, it is no ONNX file, exceeds a limit of this module, or has tensors
        in other files.
    """
    with needs("onnx"):
        import onnx
    content = read_bytes(path, FILE_LIMIT)
    try:
        _scan(onnx.ModelProto.DESCRIPTOR, content)
        model = onnx.ModelProto()
        model.ParseFromString(content)
        return model
    except BadDocument as error:
        raise InputError(f"{path}: {error}", _REMEDY) from error
    except Exception as error:  # Protobuf's own, which has no public name that all its versions share
        raise InputError(f"{path}: is no ONNX file ({one_line(str(error), 200)})", _REMEDY) from error


def _scan(descriptor: Any, content: bytes) -> None:
    """Raise BadDocument for a message that is damaged, exceeds a limit, or has tensors in other files."""
    waiting = [(descriptor, 0, len(content), 0)]
    parts = 0
    while waiting:
        message, place, end, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            raise BadDocument(f"has messages nested more than {DEPTH_LIMIT} deep")
        while place < end:
            tag, place = _varint(content, place, end)
            field, wire = message.fields_by_number.get(tag >> 3), tag & 7
            start = place
            place, length = _skipped(content, place, end, wire)
            if field is None:
                continue
            if field.full_name in _EXTERNAL and content[start:place] != b"\0":
                raise BadDocument("has a tensor whose values are in another file, which is not read")
            inside = field.message_type
            packed = wire == _BYTES and field.cpp_type not in (field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE)
            parts += length // 8 if packed else 1
            if parts > PARTS_LIMIT:
                raise BadDocument(f"has more than {PARTS_LIMIT} parts")
            if field.type == field.TYPE_STRING:
                _check_text(content[place - length : place])
            if inside is not None and wire == _BYTES:
                waiting.append((inside, place - length, place, depth + 1))


def _check_text(content: bytes) -> None:
    """Refuse what is no text: Protobuf gives it as bytes."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise BadDocument(f"has a text that is not UTF-8 ({error})") from error


def _skipped(content: bytes, place: int, end: int, wire: int) -> tuple[int, int]:
    """Give the place behind a field, and the length of its bytes."""
    length = 0
    if wire == _VARINT:
        _, place = _varint(content, place, end)
    elif wire in (_FIXED64, _FIXED32):
        place += 8 if wire == _FIXED64 else 4
    elif wire == _BYTES:
        length, place = _varint(content, place, end)
        place += length
    else:
        raise BadDocument(f"is no ONNX file: it has a field of the wire type {wire}")
    if place > end:
        raise BadDocument("is damaged: a field is longer than what holds it")
    return place, length


def _varint(content: bytes, place: int, end: int) -> tuple[int, int]:
    """Read a number of up to ten bytes, seven bits each; gives it and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = content[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise BadDocument("is damaged: a number has no end")
