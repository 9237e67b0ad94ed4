"""Programs for the chips that fail; in a module that Lava's worker can import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stas_neuro.exporters.lava.chip import Exchange
from stas_neuro.ir import Array
from stas_neuro.trace import Trace


class BrokenProgram:
    """Fails in its second model step, on its only chip."""

    classifier = 3

    chips: Sequence[int] = (3,)

    def share(self, chip: int) -> BrokenProgram:
        return self

    def links(self, images: int) -> Mapping[tuple[int, int], int]:
        return {}

    def joined(self, traces: Sequence[Any]) -> Trace:
        raise AssertionError

    def start(self, exchange: Exchange) -> BrokenProgram:
        return self

    def load(self, images: Array) -> tuple[()]:
        return ()

    def model_step(self, step: int) -> Iterable[None]:
        if step:
            raise ArithmeticError("the multiplier is on fire")
        return ()

    def finish(self) -> tuple[()]:
        raise AssertionError

    def trace(self) -> Any:
        raise AssertionError


class SilentProgram(BrokenProgram):
    """Each of its two chips waits for the other, and neither sends."""

    chips = (1, 3)

    def __init__(self, chip: int = 0) -> None:
        self._other = 4 - chip

    def share(self, chip: int) -> SilentProgram:
        return SilentProgram(chip)

    def links(self, images: int) -> Mapping[tuple[int, int], int]:
        return {(1, 3): 1, (3, 1): 1}

    def start(self, exchange: Exchange) -> SilentProgram:
        self._exchange = exchange
        return self

    def model_step(self, step: int) -> Iterator[None]:
        yield
        self._exchange.receive(self._other)
