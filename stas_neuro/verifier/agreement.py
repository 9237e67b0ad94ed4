"""Comparison of one run with the baseline: what was compared, how much differs, and the first difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity import KINDS
from stas_neuro.ir import Graph, HaltAccumulate, Node, Output, Phase
from stas_neuro.trace import Trace

TOLERANCE = 1e-9
"""Largest allowed difference of logits between float64 runs."""
INTEGER = "integer"
"""Dtype of runs of the integer program."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """One quantity of one layer: number of values compared, and number that differ in each step."""

    layer: str
    quantity: str
    compared: int
    differing_by_step: tuple[int, ...]

    @property
    def differing(self) -> int:
        """Number of values that differ, over all steps."""
        return sum(self.differing_by_step)

    @property
    def share(self) -> float:
        """Fraction of values that differ."""
        return self.differing / self.compared

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self) | {"differing": self.differing}


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first value that differs, in the order of execution. `step` counts from 1, all others from 0."""

    image: int
    layer: str
    quantity: str
    """`spike`, `membrane` or `current` of neurons, `score` or `visit` of accumulators, `logit` at the end."""
    step: int
    place: Mapping[str, int]
    """`token` and `channel` in a token layer; `channel`, `row` and `column` in a map; the `class` of a logit;
    `row` and `token` of scores that may be late."""

    def __str__(self) -> str:
        where = ", ".join(f"{axis} {index}" for axis, index in self.place.items())
        return f"image {self.image}, layer {self.layer}, step {self.step}, {where} ({self.quantity})"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One run compared with the baseline on the same images. `promised`: the runs must be equal."""

    run: str
    dtype: str
    baseline: str
    promised: bool
    layers: tuple[LayerAgreement, ...]
    """Spikes of every LIF; for the integer program also membranes and accumulated scores."""
    visits_compared: int
    visits_differing_by_token: tuple[int, ...]
    tokens_compared: int
    tokens_differing: int
    """Number of tokens, over all images, whose visits differ."""
    events_differing: int
    """Number of entries of the activity record (image, layer, step, kind) whose counts differ."""
    event_layers: tuple[str, ...]
    """Layers of these entries."""
    logit_delta: float | None
    """Largest absolute difference of a logit; None where a logit of either run is not finite."""
    top1_changes: int
    """Number of images that are classified differently."""
    first: Divergence | None

    @property
    def spikes_compared(self) -> int:
        """Number of threshold decisions compared, over all layers."""
        return sum(layer.compared for layer in self.layers if layer.quantity == "spike")

    @property
    def spikes_differing(self) -> int:
        """Number of threshold decisions that differ."""
        return sum(layer.differing for layer in self.layers if layer.quantity == "spike")

    @property
    def states_compared(self) -> int:
        """Number of membranes and accumulated scores compared."""
        return sum(layer.compared for layer in self.layers if layer.quantity != "spike")

    @property
    def states_differing(self) -> int:
        """Number of membranes and accumulated scores that differ."""
        return sum(layer.differing for layer in self.layers if layer.quantity != "spike")

    @property
    def visits_differing(self) -> int:
        """Number of visits that only one of the runs makes."""
        return sum(self.visits_differing_by_token)

    @property
    def equal(self) -> bool:
        """Whether the runs are equal; logits may differ by the tolerance of the dtype (0 for integers)."""
        differing = sum(layer.differing for layer in self.layers) + self.visits_differing
        tolerance = tolerance_of(self.dtype)
        close = self.logit_delta is not None and self.logit_delta <= tolerance
        return close and differing + self.events_differing == 0

    def __str__(self) -> str:
        parts = [f"{self.spikes_differing} spikes"]
        if self.states_compared:
            parts.append(f"{self.states_differing} membranes and scores")
        parts.append(f"{self.visits_differing} visits")
        of_layers = f" ({_some(self.event_layers)})" if self.event_layers else ""
        parts.append(f"{self.events_differing} event counts{of_layers}")
        parts.append(
            "logits that are not finite" if self.logit_delta is None else f"logits by {self.logit_delta:.3g}"
        )
        where = f", first at {self.first}" if self.first else ""
        return f"{self.run} {self.dtype} differs from {self.baseline}: {', '.join(parts)}{where}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        names = ("equal", "spikes_compared", "spikes_differing", "states_compared", "states_differing")
        return asdict(self) | {
            "layers": [layer.to_json() for layer in self.layers],
            "visits_differing": self.visits_differing,
            **{name: getattr(self, name) for name in names},
        }


def tolerance_of(dtype: str) -> float:
    """Return the largest difference of logits allowed between equal runs."""
    return 0.0 if dtype == INTEGER else TOLERANCE


def _some(names: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Tally:
    """Accumulates the comparisons of one run's batches with those of the baseline."""

    def __init__(self, graph: Graph, run: str, dtype: str, baseline: str, *, promised: bool) -> None:
        self.graph = graph
        self.about: dict[str, Any] = {
            "run": run, "dtype": dtype, "baseline": baseline, "promised": promised
        }  # fmt: skip
        self.position = {node.name: index for index, node in enumerate(graph.nodes)}
        self.compared: dict[tuple[str, str], int] = {}
        self.differing: dict[tuple[str, str], NDArray[np.int64]] = {}
        self.visits_differing = np.zeros(graph.tokens, np.int64)
        self.visits_compared = self.tokens_compared = self.tokens_differing = 0
        self.events_differing = self.top1_changes = 0
        self.event_layers: set[str] = set()
        self.logit_delta: float | None = 0.0
        self.first: Divergence | None = None

    def add(self, base: Trace, other: Trace, first_image: int) -> None:
        """Compare one batch; its first image has the number `first_image`."""
        earliest: tuple[tuple[int, ...], Divergence] | None = None
        for node, quantity, different in self._differences(base, other):
            if quantity not in ("visit", "logit"):
                self._sum(node.name, quantity, different)
            if self.first is None and different.any():
                # The first in the order of the array: images, then steps.
                image, step, *place = (int(i) for i in np.unravel_index(different.argmax(), different.shape))
                key = image, *self._order(node, step)
                if earliest is None or key < earliest[0]:
                    where = Divergence(
                        image=first_image + image,
                        layer=node.name,
                        quantity=quantity,
                        step=step + 1,
                        place=dict(zip(_axes(node, len(place)), place, strict=True)),
                    )
                    earliest = key, where
        if earliest is not None:
            self.first = earliest[1]
        self._add_visits(base.visits != other.visits)
        self._add_events(base, other)
        if not (np.isfinite(base.logits).all() and np.isfinite(other.logits).all()):
            self.logit_delta = None  # a difference would be meaningless, and max() drops a NaN
        if self.logit_delta is not None:
            self.logit_delta = max(self.logit_delta, float(np.abs(base.logits - other.logits).max()))
        self.top1_changes += int(np.count_nonzero(base.predictions != other.predictions))

    def _differences(self, base: Trace, other: Trace) -> Iterator[tuple[Node, str, Flags]]:
        """Yield each quantity that the baseline recorded: node, name, and where it differs.

        The last is bool (images, steps, ...).
        """
        for node in self.graph.nodes:
            if node.name in base.spikes:
                yield node, "spike", base.spikes[node.name] != other.spikes[node.name]
            if node.name in base.states:
                quantity = {"v": "membrane", "u": "current"}.get(node.traits.state, "score")
                yield node, quantity, base.states[node.name] != other.states[node.name]
        for block, accumulator in enumerate(self.graph.accumulators):
            mask = self.graph.inputs(accumulator).get("alive")
            if mask is not None:  # the mask of the visit, from the accumulator before it
                visits = base.visits[:, mask.delay :, block] != other.visits[:, mask.delay :, block]
                yield self.graph.node(mask.src), "visit", visits
        if self.about["promised"]:
            with np.errstate(invalid="ignore"):  # inf - inf
                near = np.abs(base.logits - other.logits) <= tolerance_of(self.about["dtype"])
            yield self.graph.output, "logit", ~near[:, None]

    def _order(self, node: Node, step: int) -> tuple[int, int, int]:
        """Return a sort key for the order of execution.

        The stem runs layer by layer, then the model steps, then the head.
        """
        position = self.position[node.name]
        if node.phase in (Phase.ONCE, Phase.STEM):
            return 0, position, step
        return (1 if node.phase == Phase.STEP else 2), step, position

    def _sum(self, layer: str, quantity: str, different: Flags) -> None:
        key = layer, quantity
        by_step = np.count_nonzero(different.swapaxes(0, 1).reshape(different.shape[1], -1), axis=1)
        self.compared[key] = self.compared.get(key, 0) + different.size
        self.differing[key] = self.differing.get(key, 0) + by_step

    def _add_visits(self, different: Flags) -> None:
        self.visits_compared += different.size
        self.visits_differing += np.count_nonzero(different, axis=(0, 1, 2))
        self.tokens_compared += different.shape[0] * different.shape[-1]
        self.tokens_differing += int(np.count_nonzero(different.any(axis=(1, 2))))

    def _add_events(self, base: Trace, other: Trace) -> None:
        """Compare the events of layers that both have: integers may have synapses that floats do without."""
        ours, theirs = (
            {layer.name: row for row, layer in enumerate(each.activity.layers)} for each in (base, other)
        )
        both = [name for name in ours if name in theirs]
        for kind in KINDS:
            different = (
                base.activity.counts[kind][:, [ours[name] for name in both]]
                != other.activity.counts[kind][:, [theirs[name] for name in both]]
            )
            self.events_differing += int(np.count_nonzero(different))
            self.event_layers |= {both[row] for row in np.flatnonzero(different.any(axis=(0, 2)))}

    def agreement(self) -> Agreement:
        """Return the agreement over all batches."""
        return Agreement(
            **self.about,
            layers=tuple(
                LayerAgreement(
                    layer=layer,
                    quantity=quantity,
                    compared=compared,
                    differing_by_step=tuple(self.differing[layer, quantity].tolist()),
                )
                for (layer, quantity), compared in self.compared.items()
            ),
            visits_compared=self.visits_compared,
            visits_differing_by_token=tuple(self.visits_differing.tolist()),
            tokens_compared=self.tokens_compared,
            tokens_differing=self.tokens_differing,
            events_differing=self.events_differing,
            event_layers=tuple(node.name for node in self.graph.nodes if node.name in self.event_layers),
            logit_delta=self.logit_delta,
            top1_changes=self.top1_changes,
            first=self.first,
        )


def _axes(node: Node, rank: int) -> tuple[str, ...]:
    if isinstance(node, Output):
        return ("class",)
    if isinstance(node, HaltAccumulate):
        return ("token",) if rank == 1 else ("row", "token")
    return {1: ("channel",), 2: ("token", "channel"), 3: ("channel", "row", "column")}[rank]
