"""Asks a processor for memory that a loop will need: rows that are not one after another come late otherwise.

LLVM compiles this for processors that can be asked, and to nothing for others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE = 64
"""Bytes that a processor loads at a time."""
_TO_WRITE, _KEEP, _DATA = 1, 3, 1
"""Operands of `llvm.prefetch`: https://llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic."""


@intrinsic
def _prefetch(typing: Any, address: Any) -> Any:
    """Ask for the line of memory at an address that will be read and written; for compiled loops only."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        at = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [at, number(_TO_WRITE), number(_KEEP), number(_DATA)])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


prefetch = cast(Callable[[int], None], _prefetch)  # as loops call it
