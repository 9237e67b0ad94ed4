"""Collects the records of batches into one, as they come: each count is held once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stas_neuro.activity.record import KINDS, Activity, Counts, Visits


class ActivityCollector:
    """Takes the records of the batches of one run, in order; `images` is the number of all images.

    Counts of kinds that never occur take no memory.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._done = 0
        self._counts: dict[str, Counts] = {}
        self._first: Activity | None = None

    def add(self, batch: Activity) -> None:
        """Take the counts of a batch."""
        if self._first is None:
            self._first = replace(batch, visits=None)
        end = self._done + batch.images
        for kind in KINDS:
            counts = batch.counts[kind]
            if counts.any():
                if kind not in self._counts:
                    self._counts[kind] = np.zeros((self._images, *counts.shape[1:]), np.int64)
                self._counts[kind][self._done : end] = counts
        self._done = end

    def activity(self, visits: Visits) -> Activity:
        """Return the record of all batches, with their visits, bool (images, T, L, N)."""
        first = self._first
        assert first is not None and self._done == self._images  # all images of a run have been in a batch
        for counts in self._counts.values():
            counts.setflags(write=False)
        none = np.broadcast_to(np.int64(0), (self._images, len(first.layers), len(first.steps)))
        return replace(first, counts=dict.fromkeys(KINDS, none) | self._counts, visits=visits)
