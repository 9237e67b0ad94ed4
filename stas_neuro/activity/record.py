"""What a run did, as counts per image, layer and step: the only thing that pricing reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from stas_neuro.errors import InputError

Counts = npt.NDArray[np.int64]
Visits = npt.NDArray[np.bool_]

KINDS: tuple[str, ...] = (
    "synops",
    "synops_unary",
    "macs",
    "updates_active",
    "updates_inactive",
    "updates_gated",
    "spikes_out",
    "score_lookups",
    "readout_macs",
)
"""Every kind of event a record holds; docs/activity.md defines each."""


def step_labels(time_steps: int, *, stem: bool = False) -> tuple[str, ...]:
    """Labels of the steps of one inference, in the order they run.

    `stem` adds the prologue `stem1..stemT` of stems that integrate after spiking.
    """
    if time_steps < 1:
        raise InputError(f"time_steps is {time_steps}: an inference takes at least 1 model step")
    prologue = tuple(f"stem{t}" for t in range(1, time_steps + 1)) if stem else ()
    return ("once", *prologue, *(f"step{t}" for t in range(1, time_steps + 1)), "end")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A node that does events, with the facts that pack it onto cores.

    `neurons` are the values it outputs (state variables of a LIF); `in_features`/`out_features` are per token or per
    map position; `weights` are stored parameters, biases excluded, shared by all tokens or positions.
    `placed_with` names the layer whose neurons its synapses end on (a Linear's LIF); empty: it keeps its own.
    """

    name: str
    kind: str
    scope: str
    neurons: int
    in_features: int = 0
    out_features: int = 0
    weights: int = 0
    placed_with: str = ""

    def __post_init__(self) -> None:
        for key in ("neurons", "in_features", "out_features", "weights"):
            if getattr(self, key) < 0:
                raise InputError(f"layer {self.name}: {key} is {getattr(self, key)}, it cannot be negative")


@dataclass(frozen=True, eq=False, kw_only=True)
class Activity:
    """Counts of a run over some images.

    `counts` maps every kind in `KINDS` to int64 (images, layers, steps); `visits` is bool (images, T, L, N): which block
    computed which token at which model step, or None where the run was not observed by token. Arrays are read-only.
    Raises InputError when shapes disagree or a count is negative.
    """

    layers: tuple[Layer, ...]
    steps: tuple[str, ...]
    counts: Mapping[str, Counts]
    visits: Visits | None = None

    def __post_init__(self) -> None:
        _require_unique("layer", [layer.name for layer in self.layers])
        _require_unique("step", self.steps)
        names = {layer.name for layer in self.layers}
        for layer in self.layers:
            if layer.placed_with and layer.placed_with not in names:
                raise InputError(f"layer {layer.name} is placed with {layer.placed_with}, which is not in the record")
        if set(self.counts) != set(KINDS):
            wrong = sorted(set(self.counts) ^ set(KINDS))
            raise InputError(f"counts: missing or unknown kinds {', '.join(wrong)}; give every kind, zeros where none")
        images = {np.shape(array)[0] if np.ndim(array) else 0 for array in self.counts.values()}
        if len(images) != 1:
            raise InputError(f"counts: kinds cover different numbers of images {sorted(images)}")
        shape = (images.pop(), len(self.layers), len(self.steps))
        frozen = {kind: _frozen_counts(kind, self.counts[kind], shape) for kind in KINDS}
        object.__setattr__(self, "counts", MappingProxyType(frozen))
        if self.visits is not None:
            visits = np.array(self.visits, dtype=np.bool_)
            if visits.ndim != 4 or visits.shape[0] != shape[0]:
                raise InputError(f"visits have shape {visits.shape}, expected ({shape[0]}, T, L, N)")
            visits.setflags(write=False)
            object.__setattr__(self, "visits", visits)

    @property
    def images(self) -> int:
        """Images the record covers."""
        return int(self.counts["synops"].shape[0])

    @property
    def token_ratio(self) -> float:
        """Mean of visits used / (T*L) over images and tokens; NaN where visits were not observed."""
        if self.visits is None or self.visits.size == 0:
            return float("nan")
        return float(self.visits.mean())

    def layer_index(self, name: str) -> int:
        """Position of layer `name` on the layer axis."""
        return _index("layer", [layer.name for layer in self.layers], name)

    def step_index(self, label: str) -> int:
        """Position of step `label` on the step axis."""
        return _index("step", self.steps, label)

    def total(self, kind: str) -> int:
        """Events of a kind over everything."""
        return int(self._of(kind).sum())

    def per_image(self, kind: str) -> Counts:
        """Events of a kind, int64 (images,)."""
        return np.asarray(self._of(kind).sum(axis=(1, 2)), dtype=np.int64)

    def per_layer(self, kind: str) -> Counts:
        """Events of a kind, int64 (layers,)."""
        return np.asarray(self._of(kind).sum(axis=(0, 2)), dtype=np.int64)

    def per_step(self, kind: str) -> Counts:
        """Events of a kind, int64 (steps,)."""
        return np.asarray(self._of(kind).sum(axis=(0, 1)), dtype=np.int64)

    def _of(self, kind: str) -> Counts:
        if kind not in self.counts:
            raise InputError(f"no event kind '{kind}'; the kinds are {', '.join(KINDS)}")
        return self.counts[kind]

    def restrict(self, images: slice | Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Activity:
        """The record of some of the images (numpy indexing of the image axis)."""
        chosen = images if isinstance(images, slice) else np.atleast_1d(np.asarray(images))
        return Activity(
            layers=self.layers,
            steps=self.steps,
            counts={kind: array[chosen] for kind, array in self.counts.items()},
            visits=None if self.visits is None else self.visits[chosen],
        )

    def __add__(self, other: Activity) -> Activity:
        """The record of both runs, images one after another: every total adds up."""
        return Activity.concatenate((self, other))

    @staticmethod
    def concatenate(records: Iterable[Activity]) -> Activity:
        """One record of several runs of the same network, joined along the image axis."""
        runs = tuple(records)
        if not runs:
            raise InputError("no activity records to join")
        first = runs[0]
        for run in runs[1:]:
            if run.layers != first.layers or run.steps != first.steps:
                raise InputError("activity records of different networks cannot be added: layers or steps differ")
        observed = [run.visits for run in runs if run.visits is not None]
        if observed and len(observed) != len(runs):
            raise InputError("some activity records have visits per token and some do not: join only like with like")
        if len({visits.shape[1:] for visits in observed}) > 1:
            raise InputError("activity records disagree on the number of steps, blocks or tokens of visits")
        return Activity(
            layers=first.layers,
            steps=first.steps,
            counts={kind: np.concatenate([run.counts[kind] for run in runs]) for kind in KINDS},
            visits=np.concatenate(observed) if observed else None,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Activity):
            return NotImplemented
        if (self.visits is None) != (other.visits is None):
            return False
        return (
            self.layers == other.layers
            and self.steps == other.steps
            and all(np.array_equal(self.counts[kind], other.counts[kind]) for kind in KINDS)
            and (self.visits is None or np.array_equal(self.visits, np.asarray(other.visits)))
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(eq=False)
class ActivityBuilder:
    """Collects counts while a backend runs a batch; what is never added is zero.

    >>> builder = ActivityBuilder(layers, step_labels(4), images=32)
    >>> builder.add("synops", "block0.q", "step1", np.count_nonzero(x, axis=(1, 2)) * 128)
    >>> activity = builder.build(visits)
    """

    layers: Sequence[Layer]
    steps: Sequence[str]
    images: int
    _counts: dict[str, Counts] = field(init=False, repr=False)
    _layer_index: dict[str, int] = field(init=False, repr=False)
    _step_index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (self.images, len(self.layers), len(self.steps))
        self._counts = {kind: np.zeros(shape, dtype=np.int64) for kind in KINDS}
        self._layer_index = {layer.name: i for i, layer in enumerate(self.layers)}
        self._step_index = {label: i for i, label in enumerate(self.steps)}

    def add(self, kind: str, layer: str, step: str | int, per_image: npt.ArrayLike) -> None:
        """Add events of `kind` at `layer` in `step` (a label, or an index into `steps`).

        `per_image` is an int for every image alike or an integer array (images,).
        """
        if kind not in self._counts:
            raise InputError(f"no event kind '{kind}'; the kinds are {', '.join(KINDS)}")
        if layer not in self._layer_index:
            raise InputError(f"layer {layer} is not in the table of layers of this record")
        at = self._step_index.get(step, -1) if isinstance(step, str) else step
        if not 0 <= at < len(self.steps):
            raise InputError(f"step {step} is not one of {', '.join(self.steps)}")
        amount = np.asarray(per_image)
        if amount.dtype.kind not in "iu" or amount.shape not in ((), (self.images,)):
            raise InputError(
                f"{kind} of {layer} at {step}: expected integers ({self.images},), got {amount.dtype} {amount.shape}"
            )
        self._counts[kind][:, self._layer_index[layer], at] += amount.astype(np.int64)

    def build(self, visits: Visits | None = None) -> Activity:
        """The finished record; `visits` bool (images, T, L, N) or None."""
        return Activity(layers=tuple(self.layers), steps=tuple(self.steps), counts=self._counts, visits=visits)


def _frozen_counts(kind: str, array: Counts, shape: tuple[int, int, int]) -> Counts:
    if np.asarray(array).dtype.kind not in "iu":
        raise InputError(f"counts of {kind} are {np.asarray(array).dtype}, expected whole numbers")
    counts = np.array(array, dtype=np.int64)
    if counts.shape != shape:
        raise InputError(f"counts of {kind} have shape {counts.shape}, expected (images, layers, steps) = {shape}")
    if counts.size and counts.min() < 0:
        raise InputError(f"counts of {kind} hold {counts.min()}: a count cannot be negative")
    counts.setflags(write=False)
    return counts


def _require_unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{what} {', '.join(twice)} appears more than once in the record")


def _index(what: str, names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"no {what} '{name}' in the record; it has {', '.join(names)}")
    return names.index(name)
