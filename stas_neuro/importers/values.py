"""What a tensor of the traced module is, while it is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from torch import Tensor

from stas_neuro.importers.axes import Dim, Dims, axis

Source = tuple[str, str]
"""A node's name and one of its output ports."""
Form = Literal["map", "tokens", "vector"]
S = TypeVar("S", bound="Shaped")


@dataclass(frozen=True, kw_only=True)
class Shaped:
    """Something with the axes of a torch tensor.

    Parameters
    ----------
    dims : Dims
        Its dimensions, as torch has them.
    sizes : mapping
        Full size of axes C, H and W.
    """

    dims: Dims
    sizes: Mapping[str, int]

    def laid_out(self: S, dims: Dims) -> S:
        """Give the same in another layout."""
        return replace(self, dims=dims)

    def whole(self, *kinds: str) -> Dim:
        """Give the dimension that holds these axes, whole, in this order."""
        return tuple(piece for kind in kinds for piece in axis(kind, self.sizes[kind]))


@dataclass(frozen=True, kw_only=True)
class Value(Shaped):
    """What an output port gives.

    Parameters
    ----------
    source : Source
    form : "map", "tokens" or "vector"
        What the port gives, whatever the layout in torch: (C, H, W), (N, C) or (C,).
    spikes : bool
        Whether all of it is 0 or 1.
    static : bool
        Whether it is the same in every step.
    step : int, optional
        The step of which it is the value, where the module has a loop over time; None: it has axis T, or is
        the same in every step.
    at_end : bool
        Whether it exists after the last step only.
    """

    source: Source
    form: Form
    spikes: bool = False
    static: bool = False
    step: int | None = None
    at_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Product(Shaped):
    """A product of attention, times `scale`: of two operands, `left` and `right`, or finished, of q, k and v.

    Operands are laid out as (..., tokens, channels), whatever the layout in torch.
    """

    operands: Mapping[str, Value]
    form: Literal["(QK^T)V", "Q(K^TV)"]
    scale: float = 1.0
    step: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it is one of q, k and v."""
        return len(self.operands) == 3


@dataclass(frozen=True, kw_only=True)
class Coincidences(Shaped):
    """k * v of spikes, before the sum over tokens."""

    k: Value
    v: Value
    step: int | None = None


def _one(factor: float) -> float:
    """Give 1 where a factor is 1 but for rounding: of T terms, each times 1/T."""
    return 1.0 if abs(factor - 1) < 1e-12 else factor


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor


@dataclass(frozen=True)
class Head:
    """A linear layer on what is averaged, and what its weights and its bias are multiplied by."""

    name: str
    weight: Tensor
    bias: Tensor | None
    weight_factor: float = 1.0
    bias_factor: float = 1.0

    def times(self, weights: float, bias: float) -> Head:
        """Multiply weights and bias."""
        return replace(
            self,
            weight_factor=_one(self.weight_factor * weights),
            bias_factor=_one(self.bias_factor * bias),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Give weights and bias."""
        weight = {"weight": _scaled(self.weight, self.weight_factor)}
        return weight if self.bias is None else weight | {"bias": _scaled(self.bias, self.bias_factor)}


@dataclass(frozen=True, kw_only=True)
class Pooled(Shaped):
    """The mean of `tokens` over some of T, H, W, and linear layers on it, which may come before a mean.

    A sum is a mean times the number of its terms, `scale`; a linear layer takes it into its weights.
    """

    tokens: Value
    reduced: frozenset[str]
    heads: tuple[Head, ...] = ()
    scale: float = 1.0
    step: int | None = None

    def times(self, factor: float) -> Pooled:
        """Multiply it; what its last linear layer gives is multiplied in that layer."""
        if not self.heads:
            return replace(self, scale=_one(self.scale * factor))
        *before, last = self.heads
        return replace(self, heads=(*before, last.times(factor, factor)))


@dataclass(frozen=True)
class StepSum:
    """The sum of one value over some of the steps."""

    term: Value | Pooled
    steps: frozenset[int]


@dataclass(frozen=True)
class Membrane:
    """State of a neuron behind step `step` of the LIF `node`; at rest before the first."""

    node: str = ""
    step: int = -1


@dataclass(frozen=True)
class Several:
    """What an operation with several results gives."""

    items: tuple[object, ...] = field(default=())


class Unknown:
    """The result of something that could not be lowered: what is done with it cannot be judged."""
