"""Result of a run of a network, the same for every backend (torch, the reference and Lava)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, ActivityCollector, Part
from stas_neuro.display import HtmlTable, Plotted, share
from stas_neuro.errors import InputError
from stas_neuro.frames import to_frame
from stas_neuro.pickling import MadeAnew

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Trace(MadeAnew, Plotted):
    """Result of running B images.

    Parameters
    ----------
    logits : float (B, classes)
    visits : bool (B, T, L, N)
        Whether each block (L) computed each token (N) in each model step (T); all true without halting.
    counted : Activity or None
        Activity record of the same B images; None if events were not counted. Of a long run it has the counts
        of a sample of the images, and the sums over all.
    spikes : mapping of LIF name to uint8 (B, steps, *shape)
        steps = T for phases stem and step, 1 for once; empty if spikes were not recorded.
    states : mapping of node name to int32 (B, steps, *shape)
        States of a quantised network: membranes of each LIF after its reset, and the accumulated scores
        (B, T, N) that each HaltAccumulate outputs; empty if they were not recorded.

    Raises
    ------
    InputError
        When shapes disagree.
    """

    logits: npt.NDArray[np.floating]
    visits: npt.NDArray[np.bool_]
    counted: Activity | None
    spikes: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    states: Mapping[str, npt.NDArray[np.int32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise InputError(f"logits have shape {self.logits.shape}", "use (images, classes)")
        images = self.logits.shape[0]
        if self.visits.ndim != 4 or self.visits.shape[0] != images:
            raise InputError(f"visits have shape {self.visits.shape}", f"use ({images}, T, L, N)")
        if self.counted is not None and self.counted.all_images != images:
            what = f"the activity covers {self.counted.all_images} images"
            raise InputError(what, f"use the {images} images of the logits")
        for what in ("spikes", "states"):
            recorded: Mapping[str, npt.NDArray[np.integer]] = getattr(self, what)
            for name, values in recorded.items():
                if values.ndim < 2 or values.shape[0] != images:
                    raise InputError(
                        f"{what} of {name} have shape {values.shape}", f"use ({images}, steps, ...)"
                    )
            object.__setattr__(self, what, MappingProxyType(dict(recorded)))

    @property
    def activity(self) -> Activity:
        """Activity record of the run.

        Raises
        ------
        InputError
            When events were not counted.
        """
        if self.counted is None:
            raise InputError(
                "the run has no activity: events were not counted",
                "use a trace of stas_neuro.run, which counts events",
            )
        return self.counted

    @property
    def images(self) -> int:
        """Number of images in the run."""
        return int(self.logits.shape[0])

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        """Index of the class with the largest logit, int64 (B,)."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def token_ratio(self) -> float:
        """Mean of visits / (T*L) over images and tokens."""
        return float(self.visits.mean())

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Labels of the images as the network numbers its classes, int64 (B,); None where they had none."""
        known = None if self.counted is None else self.counted.origin.labels
        return None if known is None else np.array(known, np.int64)

    @property
    def accuracy(self) -> float | None:
        """Share of the images that are classified correctly; None where they had no labels, or for none."""
        labels = self.labels
        return None if labels is None or not len(labels) else float((self.predictions == labels).mean())

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame of pandas with a row for each image.

        Columns: image, predicted, with labels also label and correct, visits, and the token ratio.
        """
        labels = self.labels
        possible = int(np.prod(self.visits.shape[1:]))
        used = self.visits.sum(axis=(1, 2, 3)).tolist()
        return to_frame(
            {
                "image": image,
                "predicted": predicted,
                **({} if labels is None else _judged(predicted, int(labels[image]))),
                "visits": used[image],
                "token_ratio": used[image] / possible,
            }
            for image, predicted in enumerate(self.predictions.tolist())
        )

    def _headline(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {share(self.accuracy)}"
        ratio = share(self.token_ratio if self.visits.size else None)
        return f"{self.images} images, {self.logits.shape[1]} classes{right}, token ratio {ratio}"

    def _tables(self) -> Iterable[HtmlTable]:
        _, steps, blocks, tokens = self.visits.shape
        counted = "not counted" if self.counted is None else f"{len(self.counted.layers)} layers"
        recorded = ", ".join(name for name in ("spikes", "states") if getattr(self, name))
        yield HtmlTable(
            [
                ("images", self.images),
                ("accuracy", share(self.accuracy)),
                ("token ratio", share(self.token_ratio if self.visits.size else None)),
                ("visits", f"{steps} steps x {blocks} blocks x {tokens} tokens"),
                ("activity", counted),
                ("also recorded", recorded or "nothing"),
            ]
        )

    @staticmethod
    def collect(batches: Iterable[Trace], images: int) -> Trace:
        """Join the traces of the batches of one run of `images` images, as they come, in order.

        Unlike `concatenate`, it does not hold all batches beside the result. All record the same.
        """
        collector = TraceCollector(images)
        for batch in batches:
            collector.add(batch)
        return collector.trace()

    @staticmethod
    def concatenate(traces: Iterable[Trace]) -> Trace:
        """Join the traces of several batches of one network, in the order given.

        Raises InputError where there are none, or they recorded different things.
        """
        runs = tuple(traces)
        if not runs:
            raise InputError("there are no traces to join", "pass at least one")
        first = runs[0]
        if any(
            run.spikes.keys() != first.spikes.keys() or run.states.keys() != first.states.keys()
            for run in runs
        ):
            raise InputError("the traces recorded different layers", "record the same layers in all runs")
        counted = [run.counted for run in runs if run.counted is not None]
        if counted and len(counted) != len(runs):
            raise InputError("only some of the traces have activity", "count events in all runs or in none")
        return Trace(
            logits=np.concatenate([run.logits for run in runs]),
            visits=np.concatenate([run.visits for run in runs]),
            counted=Activity.concatenate(counted) if counted else None,
            spikes={name: np.concatenate([run.spikes[name] for run in runs]) for name in first.spikes},
            states={name: np.concatenate([run.states[name] for run in runs]) for name in first.states},
        )


def _judged(predicted: int, label: int) -> dict[str, Any]:
    return {"label": label, "correct": predicted == label}


Collect = Callable[[Iterable[Trace], int], Trace]
"""Joins the traces of the batches of a run, given as they come, and the number of all images."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TracePart:
    """What is kept of the traces of some images that follow each other.

    ``arrays`` are logits, visits, spikes and states by (what, name); ``counted`` is None if events were not
    counted.
    """

    arrays: Mapping[tuple[str, str], npt.NDArray[Any]]
    counted: Part | None


class TraceCollector:
    """Takes the traces of the batches of one run, in order.

    Parameters
    ----------
    images : int
        Number of all images.
    per_image : bool
        Whether the activity has the counts of all images, not only those of a sample and sums over all.
    """

    def __init__(self, images: int, *, per_image: bool = True) -> None:
        self.images, self.done = images, 0
        self.activity = ActivityCollector(images, per_image=per_image)
        self._arrays: dict[tuple[str, str], npt.NDArray[Any]] = {}

    def add(self, batch: Trace, hashes: Sequence[str] | None = None) -> TracePart:
        """Take the trace of a batch and the hashes of its images; return what is kept."""
        arrays: dict[tuple[str, str], npt.NDArray[Any]] = {_LOGITS: batch.logits, _VISITS: batch.visits}
        arrays |= {("spikes", name): values for name, values in batch.spikes.items()}
        arrays |= {("states", name): values for name, values in batch.states.items()}
        counted = None if batch.counted is None else self.activity.add(batch.counted, hashes, batch.visits)
        self._store(arrays)
        return TracePart(arrays=arrays, counted=counted)

    def add_part(self, part: TracePart) -> None:
        """Take what `add` has returned of the next images."""
        if part.counted is not None:
            self.activity.add_part(part.counted)
        self._store(part.arrays)

    def _store(self, arrays: Mapping[tuple[str, str], npt.NDArray[Any]]) -> None:
        end = self.done + len(arrays[_LOGITS])
        for key, values in arrays.items():
            if key not in self._arrays:
                self._arrays[key] = np.zeros((self.images, *values.shape[1:]), values.dtype)
            self._arrays[key][self.done : end] = values
        self.done = end

    def trace(self) -> Trace:
        """Return the trace of all images, once all batches are taken."""
        arrays = self._arrays
        arrays[_VISITS].setflags(write=False)
        return Trace(
            logits=arrays[_LOGITS],
            visits=arrays[_VISITS],
            counted=self.activity.activity() if self.activity.layout is not None else None,
            spikes={name: values for (what, name), values in arrays.items() if what == "spikes"},
            states={name: values for (what, name), values in arrays.items() if what == "states"},
        )


_LOGITS, _VISITS = ("", "logits"), ("", "visits")
