"""Whether independent executions of one network agree: torch, the reference interpreter and Lava.

In float64 they must: every spike, every visit and every event equal, logits within ``TOLERANCE``. In float32
the order of a sum decides a threshold comparison now and then, and what follows from it cascades: there the
agreement is reported and nothing is promised.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.activity import KINDS
from stas_neuro.bundle import Bundle, load_bundle
from stas_neuro.data import LabelledImages
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.ir import LIF, Graph, Phase
from stas_neuro.trace import Trace

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

TOLERANCE = 1e-9
"""Largest difference of logits that float64 runs may have."""
BASELINE = "reference float64"
_CHUNK = 32  # images at once, which bounds the memory that spikes take
_AXES = {1: ("channel",), 2: ("token", "channel"), 3: ("channel", "row", "column")}

Run = Callable[[LabelledImages], Trace]


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """Spikes of one LIF layer: how many threshold decisions were compared and how many differ."""

    layer: str
    compared: int
    differing: int


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first spike that differs, in the order of execution. All count from 0, but `step` from 1."""

    image: int
    layer: str
    step: int
    place: Mapping[str, int]
    """Of a token layer its `token` and `channel`, of a map `channel`, `row` and `column`."""

    def __str__(self) -> str:
        where = ", ".join(f"{axis} {index}" for axis, index in self.place.items())
        return f"image {self.image}, layer {self.layer}, step {self.step}, {where}"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One run against the baseline over the same images."""

    run: str
    dtype: str
    layers: tuple[LayerAgreement, ...]
    visits_compared: int
    visits_differing: int
    events_differing: int
    """Entries of the activity record (image, layer, step, kind) whose counts differ."""
    logit_delta: float | None
    """Largest absolute difference of a logit; None where a logit of either run is not finite."""
    top1_changes: int
    """Images that are classified differently."""
    first: Divergence | None

    @property
    def promised(self) -> bool:
        """Whether this run has to equal the baseline."""
        return self.dtype == "float64"

    @property
    def spikes_compared(self) -> int:
        """Threshold decisions compared, over all layers."""
        return sum(layer.compared for layer in self.layers)

    @property
    def spikes_differing(self) -> int:
        """Those that differ."""
        return sum(layer.differing for layer in self.layers)

    @property
    def equal(self) -> bool:
        """Whether all that float64 promises holds."""
        differing = self.spikes_differing + self.visits_differing + self.events_differing
        return differing == 0 and self.logit_delta is not None and self.logit_delta <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        names = ("promised", "equal", "spikes_compared", "spikes_differing")
        return asdict(self) | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The certificate: every run against the baseline, and what was left out and why."""

    images: int
    agreements: tuple[Agreement, ...]
    left_out: Mapping[str, str]
    spikes_fired: Mapping[str, int]
    """By LIF layer, in the baseline: layers that never fire agree whatever is wrong with them."""
    visits_skipped: int | None
    """Visits of halted tokens in the baseline; None of a network that does not halt."""

    @property
    def silent_layers(self) -> tuple[str, ...]:
        """LIF layers that fired no spike on these images."""
        return tuple(name for name, spikes in self.spikes_fired.items() if not spikes)

    @property
    def failures(self) -> tuple[Agreement, ...]:
        """Runs that had to be equal and are not."""
        return tuple(agreement for agreement in self.agreements if agreement.promised and not agreement.equal)

    @property
    def passed(self) -> bool:
        """Whether every promise holds, and there was one to hold."""
        return not self.failures and any(agreement.promised for agreement in self.agreements)

    def require(self) -> None:
        """Raise CheckFailed unless `passed`, naming the first divergence or why nothing was compared."""
        if self.passed:
            return
        if not self.failures:
            reasons = " ".join(f"{part}: {reason}." for part, reason in self.left_out.items())
            raise CheckFailed(
                f"nothing could be compared with {BASELINE}. {reasons}",
                "give the checkpoint that the bundle was compiled from, or install Lava",
            )
        worst = self.failures[0]
        logits = "that are not finite" if worst.logit_delta is None else f"by {worst.logit_delta:.3g}"
        what = (
            f"{worst.run} {worst.dtype} differs from {BASELINE} over {self.images} images: "
            f"{worst.spikes_differing} spikes, {worst.visits_differing} visits, "
            f"{worst.events_differing} counts of events, logits {logits}"
        )
        where = f", first at {worst.first}" if worst.first else ""
        raise CheckFailed(
            what + where, "these results cannot be relied on: report it with the model and the image"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "images": self.images,
            "passed": self.passed,
            "baseline": BASELINE,
            "logit_tolerance": TOLERANCE,
            "spikes_fired": sum(self.spikes_fired.values()),
            "silent_layers": list(self.silent_layers),
            "visits_skipped": self.visits_skipped,
            "runs": [agreement.to_json() for agreement in self.agreements],
            "left_out": dict(self.left_out),
        }


def verify(
    network: Bundle | Graph | StasModel | str | Path,
    images: LabelledImages | NDArray[Any],
    *,
    model: StasModel | str | Path | None = None,
    limit: int | None = None,
    multiprocess: bool = False,
    progress: api.Progress | None = None,
) -> Verification:
    """Run a network everywhere on the same images and compare.

    Parameters
    ----------
    network : Bundle, Graph, StasModel, str or Path
        A path is that of a bundle or of a checkpoint directory.
    images : LabelledImages or array
        As :func:`stas_neuro.run` takes them.
    model : StasModel, str or Path, optional
        What a bundle was compiled from, since a bundle keeps no torch model. Not given, it is the checkpoint
        that the bundle names; where that cannot be had, torch is left out and the result says so.
    limit : int, optional
        Compare only the first images.
    multiprocess : bool
        Run Lava's multi-process runtime too.
    progress : callable, optional
        Called with the number of finished images and of all.

    Raises
    ------
    InputError
        If images do not fit, or `model` is not what the bundle was compiled from.
    """
    left_out: dict[str, str] = {}
    if isinstance(network, str | Path):
        is_checkpoint = (Path(network) / api.CHECKPOINT_FILES[0]).is_file()
        network = api.load_model(network) if is_checkpoint else load_bundle(network)
    if isinstance(network, Graph | Bundle):
        graph = network.graph if isinstance(network, Bundle) else network
        source = _torch_side(network, graph, model, left_out)
    else:
        graph, source = api.compile(network), network
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None, source="the images")
    api.preprocess(graph, data, limit)  # what is wrong with them is told before anything long starts
    data = data.select(slice(0, limit))
    runs = _runs(graph, source, multiprocess, left_out)
    tallies = {key: _Tally(graph) for key in runs}
    fired = {lif.name: 0 for lif in graph.of_type(LIF)}
    skipped = 0
    for start in range(0, len(data), _CHUNK):
        part = data.select(slice(start, start + _CHUNK))
        base = api.run(graph, part, record_spikes=True)
        fired = {name: spikes + int(np.count_nonzero(base.spikes[name])) for name, spikes in fired.items()}
        skipped += int(np.count_nonzero(~base.visits))
        for key, execute in runs.items():
            tallies[key].add(base, execute(part), start)
        if progress is not None:
            progress(min(start + _CHUNK, len(data)), len(data))
    return Verification(
        images=len(data),
        agreements=tuple(tally.agreement(*key) for key, tally in tallies.items()),
        left_out=left_out,
        spikes_fired=fired,
        visits_skipped=skipped if graph.accumulators else None,
    )


def _torch_side(
    network: Graph | Bundle, graph: Graph, model: StasModel | str | Path | None, left_out: dict[str, str]
) -> StasModel | None:
    """Find the model that a graph was compiled from and make sure that it is the one."""
    options: dict[str, Any] = {}
    if isinstance(network, Bundle):
        known = ("accumulate", "epsilon", "readout")
        options = {name: network.provenance.options.get(name) for name in known}
    elif model is None:
        left_out["torch"] = "a graph does not name the model it was compiled from"
        return None
    given = Path(network.provenance.source) if model is None and isinstance(network, Bundle) else model
    assert given is not None
    try:
        source = api.load_model(given, **options)
        if api.compile(source) != graph:
            what = f"{given if isinstance(given, str | Path) else 'the model'} is not what was compiled"
            raise InputError(what, "give the checkpoint that the bundle was compiled from, or compile again")
    except InputError as error:
        if model is not None:
            raise
        left_out["torch"] = error.what
        return None
    return source


def _runs(
    graph: Graph, model: StasModel | None, multiprocess: bool, left_out: dict[str, str]
) -> dict[tuple[str, str], Run]:
    """List what is compared with the baseline, by name and dtype."""
    runs: dict[tuple[str, str], Run] = {}
    if model is not None:
        unfolded = api.lower(model)
        runs["reference, not folded", "float64"] = lambda x: api.run(unfolded, x, record_spikes=True)
        runs["torch, masking", "float64"] = _torch_run(graph, model, "float64", skip=False)
        runs["torch, skipping", "float64"] = _torch_run(graph, model, "float64", skip=True)
    try:
        with api.needs("lava"):
            import stas_neuro.exporters.lava.lava_api  # noqa: F401 - only whether it can be imported
        runtimes = list(api.RUNTIMES) if multiprocess else ["in-process"]
    except InputError as error:
        left_out["lava"] = str(error)
        runtimes = []
    for runtime in runtimes:
        runs[f"Lava, {runtime}", "float64"] = _network_run(graph, "lava", "float64", runtime)
    runs["reference", "float32"] = _network_run(graph, "reference", "float32")
    if model is not None:
        runs["torch, masking", "float32"] = _torch_run(graph, model, "float32", skip=False)
    for runtime in runtimes[:1]:
        runs[f"Lava, {runtime}", "float32"] = _network_run(graph, "lava", "float32", runtime)
    return runs


def _network_run(graph: Graph, backend: str, dtype: str, runtime: str = "in-process") -> Run:
    return lambda x: api.run(graph, x, backend=backend, dtype=dtype, runtime=runtime, record_spikes=True)


def _torch_run(graph: Graph, model: StasModel, dtype: str, *, skip: bool) -> Run:
    with api.needs("torch"):
        from stas_neuro.frontend.torch_trace import trace
    precise = copy.deepcopy(model).eval()
    precise = precise.double() if dtype == "float64" else precise.float()
    return lambda x: trace(precise, api.preprocess(graph, x), skip=skip)


class _Tally:
    """Sums up the comparisons of one run's batches with the baseline's."""

    def __init__(self, graph: Graph) -> None:
        self.lifs = graph.of_type(LIF)
        self.compared = {lif.name: 0 for lif in self.lifs}
        self.differing = {lif.name: 0 for lif in self.lifs}
        self.visits_compared = self.visits_differing = self.events_differing = self.top1_changes = 0
        self.logit_delta: float | None = 0.0
        self.first: Divergence | None = None

    def add(self, base: Trace, other: Trace, first_image: int) -> None:
        """Compare one batch whose images count from `first_image`."""
        differences = {lif.name: base.spikes[lif.name] != other.spikes[lif.name] for lif in self.lifs}
        for name, different in differences.items():
            self.compared[name] += different.size
            self.differing[name] += int(np.count_nonzero(different))
        if self.first is None:
            self.first = self._first(differences, first_image)
        self.visits_compared += base.visits.size
        self.visits_differing += int(np.count_nonzero(base.visits != other.visits))
        for kind in KINDS:
            self.events_differing += int(
                np.count_nonzero(base.activity.counts[kind] != other.activity.counts[kind])
            )
        if not (np.isfinite(base.logits).all() and np.isfinite(other.logits).all()):
            self.logit_delta = None  # of which no difference says anything, and max() loses a NaN
        if self.logit_delta is not None:
            self.logit_delta = max(self.logit_delta, float(np.abs(base.logits - other.logits).max()))
        self.top1_changes += int(np.count_nonzero(base.predictions != other.predictions))

    def _first(self, differences: Mapping[str, NDArray[np.bool_]], first_image: int) -> Divergence | None:
        phases = list(Phase)
        earliest: tuple[tuple[int, int, int, int], Divergence] | None = None
        for position, lif in enumerate(self.lifs):
            different = differences[lif.name]
            if not different.any():
                continue
            image, step, *place = (int(index) for index in np.argwhere(different)[0])
            key = image, phases.index(lif.phase), step, position
            if earliest is None or key < earliest[0]:
                axes = dict(zip(_AXES[len(place)], place, strict=True))
                divergence = Divergence(image=first_image + image, layer=lif.name, step=step + 1, place=axes)
                earliest = key, divergence
        return None if earliest is None else earliest[1]

    def agreement(self, run: str, dtype: str) -> Agreement:
        """The sum of all batches."""
        return Agreement(
            run=run,
            dtype=dtype,
            layers=tuple(
                LayerAgreement(layer=name, compared=self.compared[name], differing=self.differing[name])
                for name in self.compared
            ),
            visits_compared=self.visits_compared,
            visits_differing=self.visits_differing,
            events_differing=self.events_differing,
            logit_delta=self.logit_delta,
            top1_changes=self.top1_changes,
            first=self.first,
        )
