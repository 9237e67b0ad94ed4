"""Result of a run of a network, the same for every backend (torch, the reference and Lava)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity, ActivityCollector
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
        Activity record of the same B images; None if events were not counted.
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
        if self.counted is not None and self.counted.images != images:
            raise InputError(
                f"the activity covers {self.counted.images} images", f"use the {images} images of the logits"
            )
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
            raise InputError("the run has no activity: events were not counted", "run it with count=True")
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


class TraceCollector:
    """Takes the traces of the batches of one run, in order; `images` is the number of all images."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._done = 0
        self._arrays: dict[tuple[str, str], npt.NDArray[Any]] = {}
        self._activity: ActivityCollector | None = None

    def add(self, batch: Trace) -> None:
        """Take the trace of a batch; all record the same."""
        parts = {("", "logits"): batch.logits, ("", "visits"): batch.visits}
        parts |= {("spikes", name): values for name, values in batch.spikes.items()}
        parts |= {("states", name): values for name, values in batch.states.items()}
        for key, values in parts.items():
            if key not in self._arrays:
                self._arrays[key] = np.zeros((self._images, *values.shape[1:]), values.dtype)
            self._arrays[key][self._done : self._done + batch.images] = values
        if batch.counted is not None:
            if self._activity is None:
                self._activity = ActivityCollector(self._images)
            self._activity.add(batch.counted)
        self._done += batch.images

    def trace(self) -> Trace:
        """Return the trace of all images, once all batches are taken."""
        arrays = self._arrays
        arrays["", "visits"].setflags(write=False)  # the activity has the same
        return Trace(
            logits=arrays["", "logits"],
            visits=arrays["", "visits"],
            counted=None if self._activity is None else self._activity.activity(arrays["", "visits"]),
            spikes={name: values for (what, name), values in arrays.items() if what == "spikes"},
            states={name: values for (what, name), values in arrays.items() if what == "states"},
        )
