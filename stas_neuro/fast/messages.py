"""What chips send each other: values of a node as tables, and messages of words.

A table has the values at an output port by position, (images, positions, width), whatever form they have in a
run: rows, or arrays of tokens or of the logits. A message has some of the values of all ports of a node.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import PER_TOKEN, extent
from stas_neuro.fast.execution import FastExecution
from stas_neuro.fast.plan import stored_as
from stas_neuro.fast.rows import Rows
from stas_neuro.ir import Graph, Shape
from stas_neuro.mapping.chips import Transfer
from stas_neuro.reference.exact import Dtype, exact_dtype

Array = NDArray[Any]
Words = NDArray[np.int32]
_BYTES = np.dtype(np.int32).itemsize


@dataclass(frozen=True, eq=False)
class Port:
    """An output port: the shape of its value, and whether this has tokens last, of each so many numbers.

    Tables are of dtype `stored`; arrays, which have no positions or have tokens last, of dtype `array`.
    """

    node: str
    name: str
    shape: Shape
    positions: int
    by_token: bool
    stored: np.dtype[Any]
    array: Dtype

    @staticmethod
    def of(graph: Graph, node: str) -> tuple[Port, ...]:
        """List the ports of a node."""
        known = graph.node(node)
        positions, _ = extent(graph, known)
        return tuple(
            Port(
                node=node,
                name=port,
                shape=graph.types[node, port].shape,
                positions=positions,
                by_token=graph.types[node, port].kind in PER_TOKEN,
                stored=np.dtype(stored_as(graph, known, port)),
                array=exact_dtype(graph, known),
            )
            for port in known.OUTPUTS
        )

    @property
    def width(self) -> int:
        """Numbers of each position."""
        return math.prod(self.shape) // self.positions

    def words(self, values: int) -> int:
        """Count the words of a number of values: bytes are four in a word."""
        return -(-values // _BYTES) if self.stored == np.uint8 else values

    def nothing(self, run: FastExecution, step: int) -> Array:
        """Give a table of 0."""
        node = run.graph.node(self.node)
        run.sites[self.node].step = step
        table = run.out(node, (len(run.images), self.positions, self.width), self.stored, self.name)
        table.fill(0)
        return table

    def table(self, run: FastExecution) -> Array:
        """Give the table of what a run has computed."""
        value: Any = run.values[self.node, self.name]
        size = len(run.images), self.positions, self.width
        # Arrays are copied: the table is written to, and they may be the state of a node.
        if self.by_token:
            tokens_last: Array = value.reshape(size[0], self.width, self.positions)
            return np.array(tokens_last.swapaxes(1, 2), self.stored, order="C")
        if not isinstance(value, Rows):
            value = Rows.of(value.copy(), self.shape, self.stored.type, run.everyone)
        rows: Rows = value.on(run.everyone(self.positions))
        return rows.data.reshape(size)

    def put(self, run: FastExecution, table: Array) -> None:
        """Let a run have the values of a table."""
        images = len(table)
        value: Any
        if self.by_token:
            value = table.swapaxes(1, 2).reshape(images, *self.shape).astype(self.array)
        else:
            value = Rows(table.reshape(-1, self.width), run.everyone(self.positions), self.shape)
        run.values[self.node, self.name] = value


def words_of(ports: Sequence[Port], transfer: Transfer, images: int) -> int:
    """Count the words of a message."""
    return sum(port.words(images * _size(port, transfer)) for port in ports)


def packed(ports: Sequence[Port], tables: Sequence[Array], transfer: Transfer) -> Words:
    """Give the message with the values of a transfer: bytes as they are, all else one by one."""
    return np.concatenate(
        [_packed(port, table[transfer.index]) for port, table in zip(ports, tables, strict=True)]
    )


def unpack(ports: Sequence[Port], tables: Sequence[Array], transfer: Transfer, message: Words) -> None:
    """Write the values of a message into tables; the message may be followed by 0."""
    for port, table in zip(ports, tables, strict=True):
        values = len(table) * _size(port, transfer)
        words, message = np.split(message, [port.words(values)])
        numbers = words.view(np.uint8)[:values] if port.stored == np.uint8 else words
        table[transfer.index] = numbers.reshape(table[transfer.index].shape)


def _size(port: Port, transfer: Transfer) -> int:
    """Count the values of an image: those of halting units have one feature, whatever the width."""
    return math.prod(transfer.shape) * (port.width if port.by_token else 1)


def _packed(port: Port, values: Array) -> Words:
    if port.stored != np.uint8:
        return values.astype(np.int32).ravel()
    words = np.zeros(port.words(values.size), np.int32)
    words.view(np.uint8)[: values.size] = values.ravel()
    return words
