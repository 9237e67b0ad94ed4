"""What a tensor of the traced module represents while it is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from torch import Tensor, fx

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
        Its dimensions in torch.
    sizes : mapping
        Full size of axes C, H and W.
    """

    dims: Dims
    sizes: Mapping[str, int]

    def laid_out(self: S, dims: Dims) -> S:
        """Return a copy in another layout."""
        return replace(self, dims=dims)

    def whole(self, *kinds: str) -> Dim:
        """Return the dimension that consists of these whole axes in this order."""
        return tuple(piece for kind in kinds for piece in axis(kind, self.sizes[kind]))


@dataclass(frozen=True, kw_only=True)
class Value(Shaped):
    """The value of an output port.

    Parameters
    ----------
    source : Source
    form : "map", "tokens" or "vector"
        Form of the port, for any layout in torch: (C, H, W), (N, C) or (C,).
    spikes : bool
        Whether all elements are 0 or 1.
    static : bool
        Whether it is the same in every step.
    step : int, optional
        Its step, if the module has a loop over time; None: it has axis T, or is the same in every step.
    at_end : bool
        Whether it exists only after the last step.
    """

    source: Source
    form: Form
    spikes: bool = False
    static: bool = False
    step: int | None = None
    at_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Product(Shaped):
    """A product of attention times `scale`: of two operands, `left` and `right`, or finished, of q, k and v.

    Operands have the layout (..., tokens, channels), for any layout in torch.
    """

    operands: Mapping[str, Value]
    form: Literal["(QK^T)V", "Q(K^TV)"]
    scale: float = 1.0
    step: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has all of q, k and v."""
        return len(self.operands) == 3


@dataclass(frozen=True, kw_only=True)
class Coincidences(Shaped):
    """k * v of spikes, before a sum over tokens if there is one."""

    k: Value
    v: Value
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chain(Shaped):
    """What several linear operations make of values, before `chains` makes layers of it.

    Parameters
    ----------
    made : fx.Node
        The last linear call.
    made_dims : Dims
        Layout of its result.
    """

    made: fx.Node
    made_dims: Dims
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Inverse(Chain):
    """1 - spikes, which may be multiplied by spikes."""

    spikes: Value


def _one(factor: float) -> float:
    """Return 1 for a factor that differs from 1 only by rounding, as that of T terms, each times 1/T."""
    return 1.0 if abs(factor - 1) < 1e-12 else factor


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor


@dataclass(frozen=True)
class Head:
    """A linear layer on averaged values, and the factors of its weights and its bias."""

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
        """Return weights and bias."""
        weight = {"weight": _scaled(self.weight, self.weight_factor)}
        return weight if self.bias is None else weight | {"bias": _scaled(self.bias, self.bias_factor)}


@dataclass(frozen=True, kw_only=True)
class Pooled(Shaped):
    """The mean of `tokens` over some of T, H, W, and linear layers before or behind it.

    A sum is a mean times the number of its terms, `scale`; a linear layer folds it into its weights.
    """

    tokens: Value
    reduced: frozenset[str]
    heads: tuple[Head, ...] = ()
    scale: float = 1.0
    step: int | None = None

    def times(self, factor: float) -> Pooled:
        """Multiply it, in its last linear layer if it has one."""
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
    """State of a neuron after step `step` of the LIF `node`; at rest before the first."""

    node: str = ""
    step: int = -1


@dataclass(frozen=True)
class Several:
    """The results of an operation with several."""

    items: tuple[object, ...] = field(default=())


class Unknown:
    """The result of a call that could not be lowered; calls that read it are not checked."""
