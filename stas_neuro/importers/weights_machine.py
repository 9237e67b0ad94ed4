"""A machine for pickles that makes nothing but values: the opcodes that torch writes, and no calls.

What a pickle wants imported, called or kept elsewhere is handed to a `Reader`, which says what that stands
for. Nothing on the stack can be called.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from stas_neuro.documents import BadDocument, shown

PICKLE_LIMIT = 1 << 21
"""Bytes of the pickles of a file: 15,000 tensors take them. What they describe takes up to 100 times that."""
LINE_LIMIT, PROTOCOL = 512, 2
DAMAGE = (IndexError, KeyError, TypeError, ValueError)
"""What shows that a pickle takes from an empty stack, or recalls or combines what cannot be."""


class Table(dict[Any, Any]):
    """A dict of a pickle, in which no key may be there twice."""

    __slots__ = ()  # a pickle may make millions

    def put(self, key: Any, value: Any) -> None:
        """Add an item."""
        if key in self:
            raise BadDocument(f"holds the key {shown(str(key))!r} twice in a dict")
        self[key] = value


@dataclass(frozen=True)
class Global:
    """A name that a pickle wants imported."""

    name: str


class Limited:
    """A stream of which no more than `most` bytes are read, and no line of more than `LINE_LIMIT`."""

    def __init__(self, stream: BinaryIO, most: int = PICKLE_LIMIT) -> None:
        self._stream = stream
        self._left = self._most = most

    def read(self, size: int) -> bytes:
        """Give so many bytes."""
        self._take(size)
        content = self._stream.read(size)
        if len(content) < size:
            raise BadDocument("ends within its pickle")
        return content

    def line(self) -> str:
        """Give the text up to a line's end."""
        line = self._stream.readline(LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise BadDocument(f"its pickle has a line that does not end within {LINE_LIMIT} bytes")
        self._take(len(line))
        return line[:-1].decode()

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadDocument(f"its pickle has more than {self._most} bytes")


class Reader(Protocol):
    """What the names, calls and references of a pickle stand for; each may raise BadDocument."""

    def check_name(self, name: str) -> None:
        """Refuse a name that may not be imported."""

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Say what a call gives."""

    def set_state(self, built: Any, state: Any) -> None:
        """Set the attributes of a value."""

    def recall(self, reference: Any) -> Any:
        """Say what a reference to something outside of the pickle stands for."""


class Machine:
    """Reads one pickle."""

    def __init__(self, stream: Limited, reader: Reader) -> None:
        self._stream = stream
        self._reader = reader
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Give the value of the pickle.

        Raises
        ------
        BadDocument
            If it is damaged or too long, or has an opcode that torch does not write.
        """
        try:
            while (code := self._stream.read(1)) != pickle.STOP:
                if code in _VALUES:
                    self._stack.append(_VALUES[code](self._stream))
                elif code in _ACTIONS:
                    _ACTIONS[code](self)
                else:
                    raise BadDocument(f"its pickle has the opcode {code!r}, which torch does not write")
            return self._stack.pop()
        except BadDocument:
            raise
        except DAMAGE as error:
            raise BadDocument(f"its pickle is damaged ({shown(str(error), 100)})") from error

    def _check_protocol(self) -> None:
        protocol = self._stream.read(1)[0]
        if protocol != PROTOCOL:
            raise BadDocument(f"its pickle has protocol {protocol}, torch writes {PROTOCOL}")

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _tuple(self, size: int) -> None:
        self._stack.append(tuple([self._stack.pop() for _ in range(size)][::-1]))

    def _tuple_since_mark(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _remember(self, width: int) -> None:
        self._memo[int.from_bytes(self._stream.read(width), "little")] = self._stack[-1]

    def _repeat(self, width: int) -> None:
        self._stack.append(self._memo[int.from_bytes(self._stream.read(width), "little")])

    def _global(self) -> None:
        name = f"{self._stream.line()}.{self._stream.line()}"
        self._reader.check_name(name)
        self._stack.append(Global(name))

    def _call(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise BadDocument("its pickle calls what cannot be called")
        self._stack.append(self._reader.call(called.name, arguments))

    def _set_state(self) -> None:
        state = self._stack.pop()
        self._reader.set_state(self._stack[-1], state)

    def _recall(self) -> None:
        self._stack.append(self._reader.recall(self._stack.pop()))

    def _put(self, items: list[Any]) -> None:
        table = self._stack[-1]
        if not isinstance(table, Table):
            raise BadDocument("its pickle adds a key to what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            table.put(key, value)

    def _put_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put([key, value])

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise BadDocument("its pickle appends to what is no list")
        self._stack[-1].extend(values)


def _number(form: str) -> Callable[[Limited], Any]:
    known = struct.Struct(form)
    return lambda stream: known.unpack(stream.read(known.size))[0]


def _text(width: int) -> Callable[[Limited], str]:
    return lambda stream: stream.read(int.from_bytes(stream.read(width), "little")).decode()


_VALUES: dict[bytes, Callable[[Limited], Any]] = {
    pickle.NONE: lambda stream: None,
    pickle.NEWTRUE: lambda stream: True,
    pickle.NEWFALSE: lambda stream: False,
    pickle.BININT: _number("<i"),
    pickle.BININT1: _number("<B"),
    pickle.BININT2: _number("<H"),
    pickle.LONG1: lambda stream: int.from_bytes(stream.read(stream.read(1)[0]), "little", signed=True),
    pickle.BINFLOAT: _number(">d"),
    pickle.BINUNICODE: _text(4),
    pickle.SHORT_BINSTRING: _text(1),
    pickle.EMPTY_TUPLE: lambda stream: (),
    pickle.EMPTY_LIST: lambda stream: [],
    pickle.EMPTY_DICT: lambda stream: Table(),
}
"""Opcodes that put a value on the stack."""
_ACTIONS: dict[bytes, Callable[[Machine], None]] = {
    pickle.PROTO: Machine._check_protocol,
    pickle.MARK: Machine._mark,
    pickle.TUPLE: Machine._tuple_since_mark,
    pickle.TUPLE1: lambda machine: machine._tuple(1),
    pickle.TUPLE2: lambda machine: machine._tuple(2),
    pickle.TUPLE3: lambda machine: machine._tuple(3),
    pickle.BINPUT: lambda machine: machine._remember(1),
    pickle.LONG_BINPUT: lambda machine: machine._remember(4),
    pickle.BINGET: lambda machine: machine._repeat(1),
    pickle.LONG_BINGET: lambda machine: machine._repeat(4),
    pickle.GLOBAL: Machine._global,
    pickle.REDUCE: Machine._call,
    pickle.NEWOBJ: Machine._call,
    pickle.BUILD: Machine._set_state,
    pickle.BINPERSID: Machine._recall,
    pickle.SETITEM: Machine._put_one,
    pickle.SETITEMS: lambda machine: machine._put(machine._since_mark()),
    pickle.APPEND: lambda machine: machine._extend([machine._stack.pop()]),
    pickle.APPENDS: lambda machine: machine._extend(machine._since_mark()),
}
"""Opcodes that change the stack. To make an object without calling its class is a call here."""
