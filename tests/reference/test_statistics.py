"""What layers see on a sample, compared with windows that are cut out one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from support.ir_random import Recipe, build, images_for

from stas_neuro.ir import Array, Conv2d, Linear, Node
from stas_neuro.reference import statistics
from stas_neuro.reference.interpreter import run_reference
from stas_neuro.reference.statistics import sample_statistics

RECIPES = {
    "raster": Recipe(seed=2, norm=False, epsilon=0.3),
    "grouped": Recipe(seed=3, norm=False, groups=2, channels=4, kernel=3, stride=2, pool=False),
    "oblong": Recipe(seed=4, norm=False, oblong=True, dilated=True, stem="sps"),
    "mean": Recipe(seed=5, norm=False, stem="mean", halting="off"),
    "events": Recipe(seed=6, norm=False, events=True, stem="sps"),
}


def windows(node: Conv2d, image: Array) -> Iterator[Array]:
    """Values (groups, in) of each place of the window on a map (C, H, W)."""
    kernel, stride, padding, dilation = node.sides
    padded = np.pad(image, ((0, 0), *((each, each) for each in padding)))
    below, right = (each - 1 for each in node.sides.extent)
    for top in range(0, padded.shape[1] - below, stride[0]):
        for left in range(0, padded.shape[2] - right, stride[1]):
            rows = top + np.arange(kernel[0]) * dilation[0]
            columns = left + np.arange(kernel[1]) * dilation[1]
            yield padded[:, rows][:, :, columns].reshape(node.groups, -1)


@pytest.mark.parametrize("name", RECIPES)
def test_statistics_are_those_of_all_windows_and_live_tokens(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build(RECIPES[name])
    images = images_for(graph, 5)
    seen: dict[str, list[Array]] = {}
    outputs = []

    def take(node: Node, inputs: Mapping[str, Array]) -> None:
        if isinstance(node, Conv2d):
            for image in inputs["x"]:
                seen.setdefault(node.name, []).extend(windows(node, image))
        elif isinstance(node, Linear):
            alive = inputs.get("alive", np.ones(inputs["x"].shape[:-1]))
            seen.setdefault(node.name, []).extend(row[None] for row in inputs["x"][alive != 0])
        elif node.name == "readout":
            outputs.extend(np.abs(value).max() for port, value in inputs.items() if port[0] == "z")

    run_reference(graph, images, observe=take)
    whole = sample_statistics(graph, images)
    monkeypatch.setattr(statistics, "_VALUES", 1)  # one image at a time
    assert statistics._images_at_once(graph) == 1
    single = sample_statistics(graph, images)
    assert whole.statistics.keys() == single.statistics.keys() == seen.keys()
    assert whole.largest_output == single.largest_output == max(outputs)
    for layer, rows in seen.items():
        samples = np.array(rows)
        for found in (whole.statistics[layer], single.statistics[layer]):
            np.testing.assert_allclose(found.mean, samples.mean(axis=0), rtol=0, atol=1e-12)
            second = np.einsum("ngi,ngj->gij", samples, samples) / len(samples)
            np.testing.assert_allclose(found.second, second, rtol=0, atol=1e-12)


def test_sums_of_spikes_are_exact_whatever_the_precision() -> None:
    """Products in float32 are taken only where no sum can reach 2^24."""
    rng = np.random.default_rng(0)
    spikes = (rng.random((300, 40)) < 0.5).astype(float)
    exact = spikes.astype(int).T @ spikes.astype(int)
    narrow = statistics._narrowed(spikes, 300)
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow.T @ narrow, exact)
    for wide in (spikes / 3, spikes * 4096, spikes + 2**24):
        assert statistics._narrowed(wide, 300) is wide
