"""What a form in ONNX is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stas_neuro.exporters.onnx.body import Body
from stas_neuro.exporters.onnx.function import Value

Make = Callable[[Body], dict[str, Value]]
"""Writes the body of a node's function; gives the values at its output ports."""


@dataclass(frozen=True)
class Form:
    """How an operation is written.

    Parameters
    ----------
    floats : callable
    integers : callable or None
        Of its integer twin; None where no quantised graph has it.
    """

    floats: Make
    integers: Make | None
