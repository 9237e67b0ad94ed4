"""Traces that have to be equal in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.activity import KINDS
from stas_neuro.trace import Trace


def same(ours: Trace, theirs: Trace) -> None:
    """Logits, visits, spikes, states and every count of every core are equal, or neither run is counted."""
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    for what in ("spikes", "states"):
        found: Any = getattr(ours, what)
        wanted: Any = getattr(theirs, what)
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values, f"{what} of {name}")
    if theirs.counted is not None:
        for kind in KINDS:
            np.testing.assert_array_equal(ours.activity.counts[kind], theirs.activity.counts[kind], kind)
    assert (ours.counted is None) == (theirs.counted is None) and ours.counted == theirs.counted
