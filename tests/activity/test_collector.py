"""Records of batches collected as they come: the record that joining them all at the end gives."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from support.fixed_random import pixels_for, quantised_at_random
from support.ir_random import Recipe, build

import stas_neuro
from stas_neuro import api
from stas_neuro.activity import KINDS, Activity, ActivityBuilder, ActivityCollector, Layer, step_labels
from stas_neuro.errors import InputError
from stas_neuro.fast import run_fast
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

LAYERS = tuple(Layer(name=name, kind="LIF", scope="stem", neurons=1, out_features=1) for name in "ab")


def batch(images: int, seed: int, kinds: tuple[str, ...]) -> Trace:
    rng = np.random.default_rng(seed)
    builder = ActivityBuilder(LAYERS, step_labels(2), images)
    for kind in kinds:
        builder.add(kind, "a", "step1", rng.integers(1, 9, images))
    visits = rng.integers(0, 2, (images, 2, 1, 3)).astype(np.bool_)
    logits = rng.normal(size=(images, 4))
    spikes = {"a": rng.integers(0, 2, (images, 2, 5)).astype(np.uint8)}
    return Trace(logits=logits, visits=visits, counted=builder.build(visits), spikes=spikes)


def test_batches_are_collected_as_they_would_be_joined() -> None:
    # A kind that first occurs in the second batch, and another only in the first.
    batches = [batch(3, 0, ("synops", "macs")), batch(2, 1, ("synops", "spikes_out")), batch(1, 2, ())]
    joined, collected = Trace.concatenate(batches), Trace.collect(iter(batches), 6)
    np.testing.assert_array_equal(collected.logits, joined.logits)
    np.testing.assert_array_equal(collected.visits, joined.visits)
    np.testing.assert_array_equal(collected.spikes["a"], joined.spikes["a"])
    assert collected.activity == joined.activity
    for array in (collected.activity.visits, *collected.activity.counts.values()):
        assert array is not None and not array.flags.writeable


def test_batches_without_counts_give_a_trace_without() -> None:
    plain = [dataclasses.replace(batch(2, seed, ()), counted=None) for seed in range(2)]
    assert Trace.collect(iter(plain), 4).counted is None


def test_all_images_have_to_come() -> None:
    collector = ActivityCollector(3)
    collector.add(batch(2, 0, ("synops",)).activity)
    with pytest.raises(AssertionError):
        collector.activity()


def test_counts_are_held_once() -> None:
    """Of many batches the peak is the result and a few batches, not twice the result."""
    images, size = 40_000, 100
    wide = tuple(
        Layer(name=f"l{row}", kind="LIF", scope="stem", neurons=1, out_features=1) for row in range(20)
    )

    def batches() -> Iterator[Trace]:
        for _ in range(images // size):
            builder = ActivityBuilder(wide, step_labels(1), size)
            builder.add("synops", "l0", "step1", 1)
            visits = np.ones((size, 1, 1, 1), np.bool_)
            yield Trace(logits=np.zeros((size, 1)), visits=visits, counted=builder.build(visits))

    tracemalloc.start()
    record = Trace.collect(batches(), images).activity
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = record.counts["synops"].nbytes
    assert record.total("synops") == images and peak < 1.3 * result
    assert sum(record.counts[kind].any() for kind in KINDS) == 1


def test_a_record_does_not_share_what_others_can_write_to() -> None:
    visits = np.ones((2, 2, 1, 3), np.bool_)
    counts = {kind: np.zeros((2, 2, 4), np.int64) for kind in KINDS}
    record = Activity(layers=LAYERS, steps=step_labels(2), counts=counts, visits=visits)
    counts["synops"][:] = 1
    visits[:] = False
    assert record.total("synops") == 0 and record.token_ratio == 1
    # Of a record that is made anew the arrays are the same.
    again = dataclasses.replace(record, late=1)
    assert again.visits is record.visits


def test_a_part_of_a_record_does_not_hold_all_of_it() -> None:
    builder = ActivityBuilder(LAYERS, step_labels(2), 100)
    builder.begin(["synops", "macs"])
    for kind in ("synops", "macs"):
        builder.add(kind, LAYERS[0].name, "step1", 1)
    record = builder.build()
    held = record.counts["synops"]
    assert not held.flags.owndata and dataclasses.replace(record, late=1).counts["synops"] is held
    assert record.restrict(slice(0, 1)).counts["synops"].flags.owndata


def test_a_batch_has_the_counts_of_the_images_that_are_kept() -> None:
    graph = quantised_at_random(build(Recipe(norm=False)), 0)
    with pytest.raises(InputError, match="the counts of 1 of its images, and 3 are kept"):
        run_fast(graph, pixels_for(graph, 3), kept=np.array([1]))


def test_images_are_converted_by_batch() -> None:
    graph = quantised_at_random(build(Recipe(norm=False)), 0)
    pixels = pixels_for(graph, 5).astype(np.uint8)
    prepared = api.prepare(graph, pixels)
    assert (len(prepared), prepared.shape) == (5, pixels.shape)
    np.testing.assert_array_equal(prepared[1:3], api.preprocess(graph, pixels)[1:3])
    sizes: list[int] = []

    def convert(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return part.astype(np.int64)

    trace = run_reference(graph, dataclasses.replace(prepared, convert=convert), chunk=2)
    assert sizes == [2, 2, 1]
    np.testing.assert_array_equal(trace.logits, stas_neuro.run(graph, pixels).logits)
