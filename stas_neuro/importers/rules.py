"""Rules, each of which lowers one operation of ATen; their tables are in the modules `rules_*`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from stas_neuro.importers.axes import kinds_of, merge, named
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.trace import path_of
from stas_neuro.importers.values import Chain, Shaped, Value

if TYPE_CHECKING:
    from stas_neuro.importers.lower import Lowering

Rule = Callable[..., Any]
"""Called with (call, *arguments, **keywords); returns the result, or raises `Refused`."""


@dataclass(frozen=True)
class Weights:
    """A constant tensor and the name of its parameter."""

    name: str
    tensor: Tensor


@dataclass(frozen=True)
class Call:
    """A call that is being lowered."""

    lowering: Lowering
    node: fx.Node
    given: Mapping[str, Any]
    """Its arguments by their names in ATen, with defaults."""

    @property
    def path(self) -> str:
        """Path of the module that makes it."""
        return path_of(self.node)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its result."""
        return tuple(self.node.meta["val"].shape)

    def named(self, suffix: str) -> str:
        """Return the name of a node after the module that makes the call."""
        return f"{self.path}.{suffix}" if self.path else suffix

    def value(self, given: object) -> Value:
        """Return an operand as the value of a node."""
        return self.lowering.value(given, self)

    def linear(self, given: object) -> Value | Chain:
        """Return an operand of a linear operation, which may continue a chain of them."""
        return given if isinstance(given, Chain) else self.value(given)


def refuse_unless(condition: bool, what: str, remedy: str) -> None:
    """Refuse a call if a condition does not hold."""
    if not condition:
        raise Refused(what, remedy)


def require_layout(x: Shaped, *wanted: tuple[str, ...]) -> None:
    """Require a layout: the last dimensions are these whole axes, the first has only images and steps."""
    last = [merge(dim) for dim in x.dims[-len(wanted) :]]
    first = kinds_of(x.dims[: -len(wanted)])
    if last != [x.whole(*kinds) for kinds in wanted] or not first <= {"B", "T"}:
        order = ", ".join(" ".join(kinds) for kinds in wanted)
        raise Refused(f"reads {named(x.dims)}", f"it must be (images and steps, {order})")


def require_alike(a: Shaped, b: Shaped, does: str) -> None:
    """Require the same axes in the same order."""
    if [merge(dim) for dim in a.dims] != [merge(dim) for dim in b.dims]:
        raise Refused(
            f"{does} {named(a.dims)} and {named(b.dims)}", "both must have the same axes in the same order"
        )


def require_map(x: Shaped) -> None:
    """Require the layout (images and steps, C, H, W)."""
    require_layout(x, ("C",), ("H",), ("W",))
