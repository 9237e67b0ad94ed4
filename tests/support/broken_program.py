"""A program for the chips that fails; in a module that Lava's worker can import."""

from __future__ import annotations

from stas_neuro.ir import Array
from stas_neuro.trace import Trace


class BrokenProgram:
    """Fails in its second model step."""

    def start(self) -> BrokenProgram:
        return self

    def load(self, images: Array) -> None: ...

    def model_step(self, step: int) -> None:
        if step:
            raise ArithmeticError("the multiplier is on fire")

    def unload(self) -> Trace:
        raise AssertionError
