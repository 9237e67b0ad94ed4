"""What a record says of the run that it counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.cli_support import make_checkpoint, make_data

import stas_neuro
from stas_neuro import api, compiler
from stas_neuro.activity import Origin, hash_images
from stas_neuro.bundle import hash_network
from stas_neuro.chips import load_profile
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions
from stas_neuro.placement import place


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return compiler.fold(make_checkpoint(tmp_path_factory.mktemp("origin") / "model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    return load_data(str(make_data(tmp_path_factory.mktemp("data") / "data.npz", 4)))


def origin(graph: Graph, images: object, **options: object) -> Origin:
    return api.run(graph, images, **options).activity.origin  # type: ignore[arg-type]


def test_a_run_says_what_it_was(graph: Graph, data: LabelledImages) -> None:
    found = origin(graph, data, limit=3)
    assert data.labels is not None
    assert found == Origin(
        images=hash_images(data.images[:3]),
        labels=tuple(data.labels[:3].tolist()),
        classes=3,
        network=hash_network(graph),
        arithmetic="float64",
        processes="own",
        gating="silent",
        chip=None,
    )
    assert origin(graph, data, limit=3, backend="lava") == found
    bare = origin(graph, data.images.astype(np.float32) / 255, dtype="float32")
    assert (bare.images, bare.labels, bare.arithmetic) == (hash_images(data.images), None, "float32")


def test_labels_are_counted_as_the_network_counts_them(graph: Graph, data: LabelledImages) -> None:
    assert data.labels is not None
    turned = LabelledImages(data.images, len(data.classes) - 1 - data.labels, data.classes[::-1], "turned")
    assert origin(graph, turned) == origin(graph, data)


def test_accuracy_is_that_of_the_images_that_were_run(graph: Graph, data: LabelledImages) -> None:
    trace = api.run(graph, data, limit=3)
    assert api.accuracy(trace, data, graph.classes) is not None
    for other in (data.select(slice(1, 4)), data.select(slice(0, 2))):
        with pytest.raises(InputError, match=r"the 3 images of the trace are not the first of .*data\.npz"):
            api.accuracy(trace, other, graph.classes)


def test_integers_cores_and_stock_processes_are_told(graph: Graph, data: LabelledImages) -> None:
    for bits in (4, 8):
        quantised = stas_neuro.quantise(graph, bits=bits)
        found = origin(quantised, data, arithmetic="fixed")
        assert found.arithmetic == f"integers, weights of {bits} bits"
        assert found.network == hash_network(quantised) != hash_network(graph)
    placed = place(graph, load_profile("loihi2"))
    found = origin(graph, data, mapping=placed, gating="core")
    assert (found.chip, found.gating, found.network) == ("loihi2", "core", hash_network(graph))


def test_a_network_has_one_hash_whatever_its_schedule_and_gating(graph: Graph, data: LabelledImages) -> None:
    whole = hash_network(graph)
    assert hash_network(DelayDecisions(1)(graph)) == hash_network(DelayDecisions(2)(graph)) == whole
    assert origin(graph, data, gating="none").network == whole


def test_another_network_has_another_hash(graph: Graph, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    assert hash_network(compiler.fold(checkpoint)) == hash_network(graph)
    others = [
        compiler.fold(checkpoint, accumulate="off"),
        compiler.fold(checkpoint, epsilon=0.25),
        compiler.fold(make_checkpoint(tmp_path / "other", seed=4)),
    ]
    hashes = {hash_network(each) for each in (graph, *others)}
    assert len(hashes) == 4
