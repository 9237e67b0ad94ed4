"""Which runs can be compared: those that count the same things."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from stas_neuro.activity import Activity
from stas_neuro.errors import InputError


def check_alike(runs: Mapping[str, Activity]) -> None:
    """Refuse to compare runs, by label, whose difference would be that of how they were counted.

    Raises
    ------
    InputError
        When one is on cores and another is not, or a layer takes reals in one (`macs`, as a float network
        takes images) and integers in another (`synops`).
    """
    for (label, one), (other, two) in pairwise(runs.items()):
        if bool(one.cores) != bool(two.cores):
            placed, unplaced = (label, other) if one.cores else (other, label)
            raise InputError(
                f"'{placed}' was run on cores, '{unplaced}' was not, so that messages and cores differ",
                "compile both with --placement, or run both with --no-mapping",
            )
    for label, one in runs.items():
        for other, two in runs.items():
            differing = _layers(one, "macs") & _layers(two, "synops")
            if differing:
                raise InputError(
                    f"'{label}' is a float run, '{other}' an integer one: layer {min(differing)} counts its "
                    "input as macs in the first, and as synops in the second",
                    "run both with the same --arithmetic",
                )


def _layers(activity: Activity, kind: str) -> set[str]:
    """Layers of the network that count some of a kind."""
    counted = activity.per_layer(kind)
    return {row.network_layer for row, count in zip(activity.layers, counted, strict=True) if count}
