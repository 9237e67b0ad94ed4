"""Small networks that the seeds of several readers are made of."""

from __future__ import annotations

from functools import cache

import numpy as np
from support.ir_random import Recipe, build

from stas_neuro.activity import Activity
from stas_neuro.api import run
from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.chips import load_profile
from stas_neuro.ir import Array, Graph
from stas_neuro.passes import Quantise
from stas_neuro.placement import place

SOURCE = Provenance(source="model/", source_sha256={"config.json": "0" * 64}, options={"bits": 8})
RECIPES = (
    Recipe(norm=False, channels=2, height=4, width=4, time_steps=2),
    Recipe(
        norm=False,
        channels=2,
        height=4,
        width=4,
        time_steps=3,
        blocks=1,
        stem="learned",
        halting="rectangular",
    ),
    Recipe(
        norm=False,
        channels=2,
        height=4,
        width=4,
        time_steps=2,
        blocks=1,
        sdsa=True,
        halting="off",
        readout="rate",
    ),
)


@cache
def bundles() -> tuple[Bundle, ...]:
    """One of floats, and others with integers on cores."""
    made = []
    for number, recipe in enumerate(RECIPES):
        graph = build(recipe)
        quantised = Quantise()(graph) if number else None
        mapping = None if quantised is None else place(quantised, load_profile("loihi2"), groups=2)
        made.append(Bundle(graph, SOURCE, {}, quantised, mapping))
    return tuple(made)


@cache
def activities() -> tuple[Activity, ...]:
    """Runs of them: by layer, and on cores."""
    kinds = ("float", "fixed", "fixed")
    return tuple(
        run(bundle, pixels(bundle.graph, 2), arithmetic=kind).activity
        for bundle, kind in zip(bundles(), kinds, strict=True)
    )


def pixels(graph: Graph, count: int) -> Array:
    """Random images as data have them, uint8."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *graph.input.shape)).astype(np.uint8)
