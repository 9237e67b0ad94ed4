"""Activity record: event counts of a run by image, layer and step. Pricing reads only this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from stas_neuro.activity.comparable import JOINED, check_facts
from stas_neuro.activity.origin import UNKNOWN, Origin
from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.errors import InputError, unknown
from stas_neuro.frames import to_frame
from stas_neuro.mapping import CoreLocation
from stas_neuro.pickling import MadeAnew
from stas_neuro.scopes import block_of

if TYPE_CHECKING:
    import pandas

Counts = npt.NDArray[np.int64]
Visits = npt.NDArray[np.bool_]
ImageChoice = slice | int | Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]

MAPPED_KINDS: tuple[str, ...] = (
    "axon_messages",
    "hops_x",
    "hops_y",
    "chip_crossings",
    "input_messages",
    "updates_skipped",
)
"""Kinds that are known only for a network on cores; zero without a mapping."""
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
    "cpu_operations",
    *MAPPED_KINDS,
)
"""Every kind of event in a record; docs/activity.md defines each."""


COUNT_LIMIT, TOTAL_LIMIT = 1 << 43, 1 << 62
"""Limits of a count (one image, layer and step) and of a kind's total: products and sums stay exact."""
SIZE_LIMITS: Mapping[str, int] = {
    "neurons": 1 << 40,
    "in_features": 1 << 18,
    "out_features": 1 << 18,
    "weights": 1 << 40,
    "stage": 1 << 14,
}
"""Limits of a layer's fields: at least 100 times the largest known layers."""
SAMPLE = 1000
"""Largest number of images of a run that have counts of their own, unless those of all are asked for."""
VISITS_LIMIT = 1 << 16
"""Largest number of model steps, of blocks and of tokens in visits."""

PHASES: tuple[str, ...] = ("once", "stem", "step", "end")
"""Phases in which layers run: the labels of steps without their number."""


def step_labels(time_steps: int, *, stem: bool = False) -> tuple[str, ...]:
    """Return the labels of the steps of one inference, in execution order.

    `stem` adds the prologue `stem1..stemT` of stems that integrate after spiking. Raises InputError where
    `time_steps` is less than 1.
    """
    if time_steps < 1:
        raise InputError(f"time_steps is {time_steps}", "use at least 1 model step")
    prologue = tuple(f"stem{t}" for t in range(1, time_steps + 1)) if stem else ()
    return ("once", *prologue, *(f"step{t}" for t in range(1, time_steps + 1)), "end")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A node with events, and the sizes needed to pack it onto cores.

    `layers_of(graph)` returns the layers of a network.

    Parameters
    ----------
    name, kind, scope : str
        Node name, node type (`Linear`, `LIF`, ...) and the part of the network it belongs to.
    neurons : int
        Number of output values: state variables of a LIF, accumulators of a layer with its own neurons.
    in_features, out_features : int
        Number per token or per map position.
    weights : int
        Number of parameters stored on cores, without biases; all tokens or positions share them.
    placed_with : str
        Layer whose neurons its synapses end on (a Linear's LIF); empty for a layer with its own neurons.
    phase : str
        Phase it runs in: `once`, `stem`, `step` or `end`.
    stage : int or None
        Number of spiking stages before it in its phase (a chip executes one per hardware step); None if
        unknown.
    feedback : bool
        Whether its output reaches the next model step, so that model steps cannot overlap.
    core : int or None
        Its core, an index into `Activity.cores`; None without a mapping, or outside the cores.
    of : str
        Layer of the network that it is a piece of; empty for a complete layer.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {
        "extra": "forbid"
    }  # a misspelled field in a file is an error

    name: str
    kind: str
    scope: str
    neurons: int
    in_features: int = 0
    out_features: int = 0
    weights: int = 0
    placed_with: str = ""
    phase: str = "step"
    stage: int | None = None
    feedback: bool = False
    core: int | None = None
    of: str = ""

    @property
    def network_layer(self) -> str:
        """Name of the layer of the network that the row is, or is a piece of."""
        return self.of or self.name

    def __post_init__(self) -> None:
        for key, limit in SIZE_LIMITS.items():
            if not 0 <= (getattr(self, key) or 0) <= limit:
                what = f"layer {self.name}: {key} is {getattr(self, key)}"
                raise InputError(what, f"use 0 to {limit}")
        if self.phase not in PHASES:
            raise InputError(f"layer {self.name}: phase is '{self.phase}'", f"use {', '.join(PHASES)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Whole(MadeAnew):
    """Sums over all images of a run, of which a record has the counts of a sample only. Arrays are read-only.

    Parameters
    ----------
    images : int
        Number of all images.
    numbers : int64 (images with counts,)
        Numbers of the images that have counts, in increasing order.
    counts : mapping of kind to int64 (layers, steps)
        Counts of every kind of `KINDS`.
    visits : int64 (T, L, N), optional
        Number of images for which each block computed each token in each model step.

    Raises
    ------
    InputError
        When shapes disagree, a kind is missing or unknown, or a number is negative or too large.
    """

    images: int
    numbers: npt.NDArray[np.int64]
    counts: Mapping[str, Counts]
    visits: Counts | None = None

    def __post_init__(self) -> None:
        _require_kinds(self.counts)
        shapes = {np.shape(counts) for counts in self.counts.values()}
        if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
            raise InputError("sums over all images differ in shape", "use (layers, steps) for every kind")
        numbers = np.array(self.numbers)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise InputError(f"numbers are {numbers.dtype} of {numbers.shape}", "use integers (images,)")
        wrong = len(numbers) and not 0 <= numbers[0] <= numbers[-1] < self.images
        if self.images < 1 or wrong or (np.diff(numbers) < 1).any():
            what = f"sums are over {self.images} images"
            raise InputError(what, "number the images that have counts in increasing order")
        numbers.setflags(write=False)
        object.__setattr__(self, "numbers", numbers)
        # As the counts of one image, which may be as large as those of many.
        most = min(COUNT_LIMIT * self.images, TOTAL_LIMIT)
        frozen = {
            kind: _frozen_counts(kind, np.asarray(self.counts[kind])[None], (1, *shape), most)[0]
            for kind in KINDS
        }
        object.__setattr__(self, "counts", MappingProxyType(frozen))
        if self.visits is not None:
            visits = np.array(self.visits)
            if visits.ndim != 3 or visits.dtype.kind not in "iu":
                raise InputError(
                    f"sums of visits are {visits.dtype} of {visits.shape}", "use integers (T, L, N)"
                )
            if visits.size and not 0 <= visits.min() <= visits.max() <= self.images:
                raise InputError(f"visits are up to {visits.max()}", f"use 0 to {self.images} images")
            visits.setflags(write=False)
            object.__setattr__(self, "visits", visits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Whole):
            return NotImplemented
        return (
            (self.visits is None) == (other.visits is None)
            and self.images == other.images
            and np.array_equal(self.numbers, other.numbers)
            and all(np.array_equal(self.counts[kind], other.counts[kind]) for kind in KINDS)
            and (self.visits is None or np.array_equal(self.visits, np.asarray(other.visits)))
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Activity(MadeAnew, Displayed):
    """Event counts of a run over some images. Arrays are read-only.

    Of a long run the counts may be those of a sample of its images, drawn at random, with the sums over all
    images in `whole`. Records are equal if all fields except `origin` are.

    Parameters
    ----------
    layers : tuple of Layer
    steps : tuple of str
        Labels from `step_labels`.
    counts : mapping of kind to int64 (images, layers, steps)
        Counts of every kind of `KINDS`.
    visits : bool (images, T, L, N), optional
        Whether each block computed each token in each model step; None if not recorded.
    cores : tuple of CoreLocation
        Locations of the cores that rows refer to; empty without a mapping.
    late : int
        Hardware steps by which halting decisions are late; above 0 only for the schedule pipelined-stale.
    origin : Origin
        Network, images and computation of the run; unknown by default.
    whole : Whole, optional
        Sums over all images of the run, where the counts are those of a sample; None where they are of all.

    Raises
    ------
    InputError
        When shapes disagree, a kind is missing or unknown, a count is negative or above `COUNT_LIMIT`, or a
        layer is inconsistent with the record.
    """

    layers: tuple[Layer, ...]
    steps: tuple[str, ...]
    counts: Mapping[str, Counts]
    visits: Visits | None = None
    cores: tuple[CoreLocation, ...] = ()
    late: int = 0
    origin: Origin = UNKNOWN
    whole: Whole | None = None

    def to_frame(self, *, by_image: bool = False) -> pandas.DataFrame:
        """Return a data frame of pandas with a row for each layer, step and kind of event that occurs.

        Columns: layer, kind and scope of the layer, step, event, and count, the sum over the images; with
        `by_image` a row for each image that has counts too, and its number.
        """
        return to_frame(row for event in KINDS for row in self._rows(event, by_image))

    def _rows(self, event: str, by_image: bool) -> Iterator[dict[str, Any]]:
        counts = self.counts[event]
        found = counts if by_image else self.sums(event)[None]
        for image, index, step in np.argwhere(found):
            layer = self.layers[index]
            row: dict[str, Any] = {"image": int(self.numbers[image])} if by_image else {}
            row |= {"layer": layer.name, "kind": layer.kind, "scope": layer.scope, "step": self.steps[step]}
            yield row | {"event": event, "count": int(found[image, index, step])}

    def _headline(self) -> str:
        placed = f", {len(self.cores)} cores" if self.cores else ""
        return f"{self.all_images} images, {len(self.layers)} layers, {len(self.steps)} steps{placed}"

    def _tables(self) -> Iterable[HtmlTable]:
        totals = {event: self.total(event) for event in KINDS}
        rows = [(event, f"{total / max(1, self.all_images):.4g}") for event, total in totals.items() if total]
        yield HtmlTable(rows, ("event", "mean count of an image"))

    def __post_init__(self) -> None:
        _require_unique("layer", [layer.name for layer in self.layers])
        _require_unique("step", self.steps)
        self._check_stages()
        owners = {layer.name for layer in self.layers if not layer.placed_with}
        for layer in self.layers:
            if layer.placed_with and layer.placed_with not in owners:
                what = f"layer {layer.name} is placed with {layer.placed_with}"
                raise InputError(what, "name a layer of the record that has its own neurons")
            if layer.core is not None and not 0 <= layer.core < len(self.cores):
                what = f"layer {layer.name} is on core {layer.core} of {len(self.cores)}"
                raise InputError(what, "list the location of every core")
        if not 0 <= self.late <= SIZE_LIMITS["stage"]:
            remedy = f"use 0 to {SIZE_LIMITS['stage']} hardware steps"
            raise InputError(f"late is {self.late}", remedy)
        _require_kinds(self.counts)
        images = {np.shape(array)[0] if np.ndim(array) else 0 for array in self.counts.values()}
        if len(images) != 1:
            raise InputError(
                f"counts cover {sorted(images)} images by kind", "use the same images for every kind"
            )
        shape = (images.pop(), len(self.layers), len(self.steps))
        for name in ("images", "labels"):
            known = getattr(self.origin, name)
            every = shape[0] if self.whole is None else self.whole.images
            if known is not None and len(known) != every:
                remedy = f"use {every}, one per image"
                raise InputError(f"origin.{name}: has {len(known)} entries", remedy)
        frozen = {kind: _frozen_counts(kind, self.counts[kind], shape) for kind in KINDS}
        object.__setattr__(self, "counts", MappingProxyType(frozen))
        if self.visits is not None:
            visits = np.asarray(self.visits, dtype=np.bool_)
            if writable(visits):
                visits = visits.copy()
            if visits.ndim != 4 or visits.shape[0] != shape[0]:
                raise InputError(f"visits have shape {visits.shape}", f"use ({shape[0]}, T, L, N)")
            self._check_visits(visits.shape)
            visits.setflags(write=False)
            object.__setattr__(self, "visits", visits)
        self._check_whole(shape)

    def _check_whole(self, shape: tuple[int, int, int]) -> None:
        """Refuse sums over all images that are not of a run which the counts may be a sample of."""
        whole = self.whole
        if whole is None:
            return
        if len(whole.numbers) != shape[0]:
            what = f"{shape[0]} images have counts, but {len(whole.numbers)} have numbers"
            raise InputError(what, "number each image that has counts")
        if whole.counts["synops"].shape != shape[1:]:
            what = f"sums over all images have shape {whole.counts['synops'].shape}"
            raise InputError(what, f"use (layers, steps) = {shape[1:]}")
        known = None if self.visits is None else self.visits.shape[1:]
        if (None if whole.visits is None else whole.visits.shape) != known:
            raise InputError("sums of visits have another shape than visits", "use (T, L, N) for both")

    def _check_stages(self) -> None:
        """Refuse a stage number that its phase has too few layers for: each earlier stage needs a layer."""
        stages = Counter(layer.phase for layer in self.layers)
        for layer in self.layers:
            if layer.stage is not None and layer.stage >= stages[layer.phase]:
                what = f"layer {layer.name}: stage is {layer.stage}"
                remedy = f"count from 0: {stages[layer.phase]} layers of phase {layer.phase} are listed"
                raise InputError(what, remedy)

    def _check_visits(self, shape: tuple[int, ...]) -> None:
        """Refuse visits in steps that the record does not list, or with too few blocks for its layers."""
        for what, size in zip(("model steps", "blocks", "tokens"), shape[1:], strict=True):
            if not 1 <= size <= VISITS_LIMIT:
                raise InputError(f"visits have {size} {what}", f"use 1 to {VISITS_LIMIT}")
        labels = set(self.steps)
        for step in range(1, shape[1] + 1):
            if f"step{step}" not in labels:
                raise InputError(
                    f"visits have {shape[1]} model steps, but there is no step{step}", "list each model step"
                )
        for layer in self.layers:
            if (block_of(layer.scope) or 0) >= shape[2]:
                what = f"layer {layer.name} is in {layer.scope}, but visits have {shape[2]} blocks"
                raise InputError(what, "number blocks from block0")

    @property
    def images(self) -> int:
        """Number of images that have counts: of all images, or of a sample."""
        return int(self.counts["synops"].shape[0])

    @property
    def all_images(self) -> int:
        """Number of all images of the run, over which totals are."""
        return self.images if self.whole is None else self.whole.images

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of the images that have counts among all images of the run, in increasing order."""
        return np.arange(self.images) if self.whole is None else self.whole.numbers

    @property
    def token_ratio(self) -> float:
        """Mean of visits / (T*L) over all images and tokens; NaN if visits were not recorded."""
        if self.visits is None or self.visits.size == 0:
            return float("nan")
        if self.whole is not None and self.whole.visits is not None:
            return float(self.whole.visits.mean() / self.whole.images)
        return float(self.visits.mean())

    def layer_index(self, name: str) -> int:
        """Return the index of layer `name` on the layer axis; raises InputError where there is none."""
        return _index("layer", [layer.name for layer in self.layers], name)

    def step_index(self, label: str) -> int:
        """Return the index of step `label` on the step axis; raises InputError where there is none."""
        return _index("step", self.steps, label)

    def total(self, kind: str) -> int:
        """Return the total number of events of a kind, over all images."""
        return int(self.sums(kind).sum())

    def per_image(self, kind: str) -> Counts:
        """Return the number of events of a kind per image that has counts, int64 (images,)."""
        return np.asarray(self._of(kind).sum(axis=(1, 2)), dtype=np.int64)

    def per_layer(self, kind: str) -> Counts:
        """Return the number of events of a kind per layer, over all images, int64 (layers,)."""
        return np.asarray(self.sums(kind).sum(axis=1), dtype=np.int64)

    def per_step(self, kind: str) -> Counts:
        """Return the number of events of a kind per step, over all images, int64 (steps,)."""
        return np.asarray(self.sums(kind).sum(axis=0), dtype=np.int64)

    def sums(self, kind: str) -> Counts:
        """Return the number of events of a kind per layer and step, over all images, (layers, steps)."""
        counts = self._of(kind)
        return np.asarray(
            counts.sum(axis=0) if self.whole is None else self.whole.counts[kind], dtype=np.int64
        )

    def _of(self, kind: str) -> Counts:
        if kind not in self.counts:
            raise unknown("event kind", kind, KINDS)
        return self.counts[kind]

    @property
    def sample_note(self) -> str | None:
        """What a reader of prices has to know of a record with the counts of a sample; else None."""
        if self.whole is None:
            return None
        return (
            f"priced on {self.images} of the {self.all_images} images, drawn at random, whose counts were "
            "kept; run --per-image keeps and prices all"
        )

    def sampled(self) -> Activity:
        """Return the record that the same run has without --per-image; itself for few images."""
        if self.whole is not None or self.images <= SAMPLE:
            return self
        numbers = sample_of(self.images)
        whole = Whole(
            images=self.images,
            numbers=numbers,
            counts={kind: self.sums(kind) for kind in KINDS},
            visits=_sums_of_visits(self),
        )
        return replace(self.restrict(numbers), whole=whole, origin=self.origin)

    def without_sums(self) -> Activity:
        """Return the record of only the images that have counts, to change these; itself if all have."""
        return self if self.whole is None else self.restrict(slice(None))

    def restrict(self, images: ImageChoice) -> Activity:
        """Return the record of some of the images that have counts (numpy indexing of the image axis)."""
        chosen = images if isinstance(images, slice) else np.atleast_1d(np.asarray(images))
        return Activity(
            layers=self.layers,
            steps=self.steps,
            counts={kind: array[chosen] for kind, array in self.counts.items()},
            visits=None if self.visits is None else self.visits[chosen],
            cores=self.cores,
            late=self.late,
            origin=self.origin.restrict(self.numbers[chosen]),
        )

    def __add__(self, other: Activity) -> Activity:
        """Join both runs along the image axis; see `concatenate`."""
        return Activity.concatenate((self, other))

    @staticmethod
    def concatenate(records: Iterable[Activity]) -> Activity:
        """Join runs of the same network along the image axis.

        A fact about the origin that one of the records lacks is None in the result. If one has the counts of
        a sample only, the result has those of a sample: of each record as large a share as of all.

        Raises
        ------
        InputError
            When there are no records, or two differ in their layers, steps, cores, schedule, visits, network,
            arithmetic or gating. The message names both, and their values.
        """
        runs = tuple(records)
        if not runs:
            raise InputError("there are no activity records to join", "pass at least one")
        first = runs[0]
        check_facts({f"record {number}": run for number, run in enumerate(runs, 1)}, JOINED)
        origin, whole = Origin.join([run.origin for run in runs]), None
        if any(run.whole is not None for run in runs):
            whole, runs = _joined_samples(runs)
        observed = [run.visits for run in runs if run.visits is not None]
        return Activity(
            layers=first.layers,
            steps=first.steps,
            counts={kind: np.concatenate([run.counts[kind] for run in runs]) for kind in KINDS},
            visits=np.concatenate(observed) if observed else None,
            cores=first.cores,
            late=first.late,
            origin=origin,
            whole=whole,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Activity):
            return NotImplemented
        if (self.visits is None) != (other.visits is None):
            return False
        return (
            self.layers == other.layers
            and self.steps == other.steps
            and (self.cores, self.late) == (other.cores, other.late)
            and all(np.array_equal(self.counts[kind], other.counts[kind]) for kind in KINDS)
            and (self.visits is None or np.array_equal(self.visits, np.asarray(other.visits)))
            and self.whole == other.whole
        )

    __hash__ = None  # type: ignore[assignment]


def image_by_image(runs: Sequence[Activity]) -> list[Activity]:
    """Return records with counts of the same images: samples of all, if one has those of a sample."""
    if all(run.whole is None for run in runs):
        return list(runs)
    return [run.sampled() for run in runs]


def sample_of(images: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the images of a run that have counts of their own: all, or `SAMPLE` of them.

    They are drawn at random, the same for each run of as many images, so that runs can be compared.
    """
    if images <= SAMPLE:
        return np.arange(images)
    return np.sort(np.random.RandomState(0).permutation(images)[:SAMPLE])


def _joined_samples(runs: Sequence[Activity]) -> tuple[Whole, tuple[Activity, ...]]:
    """Return the sums over all images of some runs, and samples that are as large a share of each."""
    share = min(run.images / run.all_images for run in runs)
    samples: list[Activity] = []
    numbers: list[npt.NDArray[np.int64]] = []
    before = 0
    for run in runs:
        kept = np.sort(np.random.RandomState(0).permutation(run.images)[: int(share * run.all_images)])
        samples.append(run.restrict(kept))
        numbers.append(before + run.numbers[kept])
        before += run.all_images
    visits = [_sums_of_visits(run) for run in runs]
    whole = Whole(
        images=before,
        numbers=np.concatenate(numbers),
        counts={kind: sum((run.sums(kind) for run in runs), np.int64(0)) for kind in KINDS},
        visits=sum((each for each in visits if each is not None), np.int64(0))
        if visits[0] is not None
        else None,
    )
    return whole, tuple(samples)


def _sums_of_visits(run: Activity) -> Counts | None:
    if run.whole is not None or run.visits is None:
        return None if run.whole is None else run.whole.visits
    return np.asarray(run.visits.sum(axis=0), np.int64)


@dataclass(eq=False)
class ActivityBuilder:
    """Collects counts while a backend runs a batch; counts that are never added are zero.

    >>> builder = ActivityBuilder(layers, step_labels(4), images=32)
    >>> builder.add("synops", "block0.q", "step1", np.count_nonzero(x, axis=(1, 2)) * 128)
    >>> activity = builder.build(visits)
    """

    layers: Sequence[Layer]
    steps: Sequence[str]
    images: int
    cores: tuple[CoreLocation, ...] = ()
    late: int = 0
    _counts: dict[str, Counts] = field(init=False, repr=False)
    _layer_index: dict[str, int] = field(init=False, repr=False)
    _step_index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nothing = np.broadcast_to(np.int64(0), (self.images, len(self.layers), len(self.steps)))
        self._counts = dict.fromkeys(KINDS, nothing)  # many kinds never occur, and take no memory
        self._layer_index = {layer.name: i for i, layer in enumerate(self.layers)}
        self._step_index = {label: i for i, label in enumerate(self.steps)}

    def add(self, kind: str, layer: str, step: str | int, per_image: npt.ArrayLike) -> None:
        """Add events of `kind` at `layer` in `step` (a label, or an index into `steps`).

        `per_image` is an integer array (images,), or one integer for every image.

        Raises InputError where the kind, layer or step is unknown, or `per_image` is not such an array.
        """
        if kind not in self._counts:
            raise unknown("event kind", kind, KINDS)
        if layer not in self._layer_index:
            raise InputError(f"no layer '{layer}' in this record", "add it to the table of layers")
        at = self._step_index.get(step, -1) if isinstance(step, str) else step
        if not 0 <= at < len(self.steps):
            raise InputError(f"no step {step} in this record", f"use one of {', '.join(self.steps)}")
        amount = np.asarray(per_image)
        if amount.dtype.kind not in "iu" or amount.shape not in ((), (self.images,)):
            raise InputError(
                f"{kind} of {layer} at {step} are {amount.dtype} {amount.shape}",
                f"use integers ({self.images},), or one integer for every image",
            )
        self.table(kind)[:, self._layer_index[layer], at] += amount.astype(np.int64)

    def begin(self, kinds: Iterable[str]) -> None:
        """Let those of some kinds that have no counts yet begin at 0."""
        new = [kind for kind in kinds if not any(self._counts[kind].strides)]
        self._counts |= no_counts_of(new, (self.images, len(self.layers), len(self.steps)))

    def table(self, kind: str) -> Counts:
        """Return the counts of a kind to add to, (images, layers, steps), with images side by side."""
        # They are copied if there are none yet, or they belong to a record that was built.
        if not self._counts[kind].flags.writeable:
            self._counts[kind] = self._counts[kind].copy("F")
        return self._counts[kind]

    @property
    def counts(self) -> Mapping[str, Counts]:
        """Counts of every kind so far, (images, layers, steps)."""
        return self._counts

    def build(self, visits: Visits | None = None, whole: Whole | None = None) -> Activity:
        """Return the record, which takes over the counts.

        `visits` is bool (images, T, L, N) or None; `whole` has the sums over all images, if these are some.
        """
        for counts in self._counts.values():
            freeze(counts)
        return Activity(
            layers=tuple(self.layers),
            steps=tuple(self.steps),
            counts=self._counts,
            visits=visits,
            cores=self.cores,
            late=self.late,
            whole=whole,
        )


def no_counts(shape: tuple[int, ...], dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    """Return counts (images, layers, steps) of 0. Those of all images of a layer and step are side by side.

    They are what is written and read together.
    """
    return np.zeros(shape, dtype, order="F")


def no_counts_of(kinds: Sequence[str], shape: tuple[int, int, int]) -> dict[str, Counts]:
    """Return counts (images, layers, steps) of 0 for some kinds.

    They are allocated together: large arrays are given pages of 2 MiB, others fault every 4 KiB.
    """
    counts = no_counts((*shape, len(kinds)))
    return {kind: counts[..., at] for at, kind in enumerate(kinds)}


def freeze(array: npt.NDArray[Any]) -> None:
    """Let nobody write to an array any more, nor to those that it is a view of."""
    held: Any = array
    while isinstance(held, np.ndarray):
        held.setflags(write=False)
        held = held.base


def writable(array: npt.NDArray[Any]) -> bool:
    """Tell whether somebody could still write to an array, or to what it is a view of."""
    return array.flags.writeable or not array.flags.owndata


def _is_frozen_kind(counts: Counts) -> bool:
    """Tell whether counts are all those of a kind that were allocated with others, and frozen."""
    block = counts.base
    if block is None or block.ndim != 4 or block.shape[:3] != counts.shape:
        return False
    return not block.flags.writeable and not counts.flags.writeable


def _require_kinds(counts: Mapping[str, Counts]) -> None:
    if set(counts) != set(KINDS):
        wrong = sorted(set(counts) ^ set(KINDS))
        remedy = "pass every kind, with zeros where none occur"
        raise InputError(f"kinds missing or unknown: {', '.join(wrong)}", remedy)


def _frozen_counts(kind: str, array: Counts, shape: tuple[int, int, int], most: int = COUNT_LIMIT) -> Counts:
    if np.asarray(array).dtype.kind not in "iu":
        raise InputError(f"counts of {kind} are {np.asarray(array).dtype}", "use integers")
    if np.shape(array) != shape:
        raise InputError(
            f"counts of {kind} have shape {np.shape(array)}", f"use (images, layers, steps) = {shape}"
        )
    counts = np.asarray(array, dtype=np.int64)
    # Of a kind that never occurs one count stands for all.
    met = counts if any(counts.strides) else counts[:1, :1, :1]
    high = int(met.view(np.uint64).max(initial=0))  # numbers below 0 are then the largest
    if high > most:
        if (low := int(met.min())) < 0:
            raise InputError(f"a count of {kind} is {low}", "use at least 0")
        raise InputError(f"a count of {kind} is {high}", f"use at most {most}")
    if not high:
        return np.broadcast_to(np.int64(0), shape)  # takes no memory: many kinds never occur
    if high * counts.size > TOTAL_LIMIT and counts.sum(dtype=np.float64) > TOTAL_LIMIT:
        raise InputError(f"counts of {kind} add up to more than {TOTAL_LIMIT}", "split the record")
    if writable(counts) and not _is_frozen_kind(counts):
        counts = counts.copy("F")
    counts.setflags(write=False)
    return counts


def _require_unique(what: str, names: Sequence[str]) -> None:
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise InputError(f"{what} {', '.join(repeated)} appears more than once", "list each once")


def _index(what: str, names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"no {what} '{name}' in the record", f"use one of {', '.join(names)}")
    return names.index(name)
