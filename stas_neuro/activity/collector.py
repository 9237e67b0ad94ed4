"""Collects the records of the batches of a run as they come: sums over all images, and counts of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stas_neuro.activity.record import KINDS, Activity, Counts, Whole, freeze, no_counts_of, sample_of
from stas_neuro.errors import InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """What is kept of the records of some images that follow each other.

    Parameters
    ----------
    images : int
        Number of images.
    counts : mapping of kind to int64 (images with counts, layers, steps)
    sums : mapping of kind to int64 (layers, steps)
        Sums over all of the images.
    visits : bool (images, T, L, N), optional
    hashes : tuple of str (images,), optional
    """

    images: int
    counts: Mapping[str, Counts]
    sums: Mapping[str, Counts]
    visits: npt.NDArray[np.bool_] | None
    hashes: tuple[str, ...] | None

    @staticmethod
    def joined(parts: Sequence[Part]) -> Part:
        """Join parts that follow each other, of one run."""
        visits = [part.visits for part in parts if part.visits is not None]
        hashes = [part.hashes for part in parts if part.hashes is not None]
        return Part(
            images=sum(part.images for part in parts),
            counts={kind: np.concatenate([part.counts[kind] for part in parts]) for kind in KINDS},
            sums={kind: np.sum([part.sums[kind] for part in parts], axis=0) for kind in KINDS},
            visits=np.concatenate(visits) if visits else None,
            hashes=tuple(each for known in hashes for each in known) if hashes else None,
        )


class ActivityCollector:
    """Takes the records of the batches of one run, in order.

    Parameters
    ----------
    images : int
        Number of all images.
    per_image : bool
        Whether the record has the counts of all images, not only those of a sample (`sample_of`).

    Its memory is that of the images with counts. Counts of kinds that never occur take none.
    """

    def __init__(self, images: int, *, per_image: bool = True) -> None:
        self.images, self.done = images, 0
        self.kept = np.arange(images) if per_image else sample_of(images)
        """Numbers of the images with counts, in order."""
        self.hashes: list[str] = []
        """Hashes of the images, if hashes are given."""
        self._counts: dict[str, Counts] = {}
        self._visits: npt.NDArray[np.bool_] | None = None
        self._sums: dict[str, Counts] = {}
        self._visited: Counts | None = None
        self.layout: Activity | None = None
        """A record without images that has the layers, steps and cores of all batches."""

    def kept_from(self, start: int) -> npt.NDArray[np.int64] | None:
        """Return the numbers that images with counts have among those from one on; None if all have."""
        if len(self.kept) == self.images:
            return None
        return self.kept[self.rows(start, self.images)] - start

    def rows(self, start: int, stop: int) -> slice:
        """Return which of the images with counts are among some images of the run."""
        return slice(*np.searchsorted(self.kept, (start, stop)).tolist())

    def add(
        self,
        batch: Activity,
        hashes: Sequence[str] | None = None,
        visits: npt.NDArray[np.bool_] | None = None,
    ) -> Part:
        """Take the counts of a batch and the hashes of its images; return what is kept of them.

        A batch may have the counts of those of its images alone that are among `kept`; then `visits` has
        those of all, bool (images, T, L, N).
        """
        if batch.whole is None:
            chosen = self._chosen(batch.images)
            counts = {kind: _of_images(batch.counts[kind], chosen) for kind in KINDS}
            sums: Mapping[str, Counts] = {kind: _summed(batch.counts[kind]) for kind in KINDS}
        else:
            numbers = self.kept[self.rows(self.done, self.done + batch.all_images)] - self.done
            if not np.array_equal(batch.numbers, numbers):
                counted = f"a batch has the counts of {len(batch.numbers)} of its images"
                what = f"{counted}, and {len(numbers)} are kept"
                raise InputError(what, "count the images that are kept, or all")
            counts, sums = dict(batch.counts), batch.whole.counts
        part = Part(
            images=batch.all_images,
            counts=counts,
            sums=sums,
            visits=batch.visits if batch.whole is None or batch.visits is None else visits,
            hashes=None if hashes is None else tuple(hashes),
        )
        if self.layout is None:
            self.layout = replace(batch.restrict(slice(0, 0)), visits=None)
        self.add_part(part)
        return part

    def add_part(self, part: Part) -> None:
        """Take what `add` has returned of the next images; `layout` has to be known."""
        end = self.done + part.images
        rows = self.rows(self.done, end)
        occur = [kind for kind, sums in part.sums.items() if sums.any()]
        if new := [kind for kind in occur if kind not in self._counts]:
            layers, steps = part.sums[new[0]].shape
            self._counts |= no_counts_of(new, (len(self.kept), layers, steps))
            self._sums |= {kind: np.zeros((layers, steps), np.int64) for kind in new}
        for kind in occur:
            self._counts[kind][rows] = part.counts[kind]
            self._sums[kind] += part.sums[kind]
        chosen = self._chosen(part.images)
        if part.visits is not None:
            if self._visits is None or self._visited is None:
                self._visits = np.zeros((len(self.kept), *part.visits.shape[1:]), np.bool_)
                self._visited = np.zeros(part.visits.shape[1:], np.int64)
            self._visits[rows] = part.visits[chosen]
            self._visited += part.visits.sum(axis=0)
        if part.hashes is not None:
            self.hashes += part.hashes
        self.done = end

    def _chosen(self, images: int) -> slice | npt.NDArray[np.int64]:
        """Return which of the next images have counts: all of a short run, which need not be copied."""
        numbers = self.kept[self.rows(self.done, self.done + images)] - self.done
        return slice(images) if len(numbers) == images else numbers

    def activity(self) -> Activity:
        """Return the record of all batches."""
        first = self.layout
        assert first is not None and self.done == self.images  # all images of a run have been in a batch
        shape = (len(first.layers), len(first.steps))
        for counts in (*self._counts.values(), *self._sums.values()):
            freeze(counts)
        if self._visits is not None:
            freeze(self._visits)
        whole = None
        if len(self.kept) < self.images:
            whole = Whole(
                images=self.images,
                numbers=self.kept,
                counts=dict.fromkeys(KINDS, np.zeros(shape, np.int64)) | self._sums,
                visits=self._visited,
            )
        none = np.broadcast_to(np.int64(0), (len(self.kept), *shape))
        listed = dict.fromkeys(KINDS, none) | self._counts
        return replace(first, counts=listed, visits=self._visits, whole=whole)


def _of_images(counts: Counts, chosen: slice | npt.NDArray[np.int64]) -> Counts:
    """Return the counts of some images, those of a layer and step side by side as they are."""
    if isinstance(chosen, slice):
        return counts[chosen]
    if not any(counts.strides):
        return np.broadcast_to(np.int64(0), (len(chosen), *counts.shape[1:]))
    return np.asarray(np.take(counts.T, chosen, axis=2).T)


def _summed(counts: Counts) -> Counts:
    """Sum counts over the images; of a kind that never occurs there is nothing to sum."""
    if not any(counts.strides):
        return np.zeros(counts.shape[1:], np.int64)
    return np.asarray(counts.sum(axis=0))
