"""A search on a small model: its points, predictions and prices against runs of their bundles."""

from __future__ import annotations

import io
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.charts import axis_titles, heading, legends, rows_with
from support.random_models import random_config, random_model

from stas_neuro import api
from stas_neuro.bundle import load_bundle
from stas_neuro.cli.optimise import written_words
from stas_neuro.data import LabelledImages
from stas_neuro.energy import estimate
from stas_neuro.errors import InputError
from stas_neuro.models.stas import StasModel
from stas_neuro.optimiser import Optimised, Space, optimise, optimise_all, targets_of
from stas_neuro.report.charts import frontier_chart
from stas_neuro.report.frontier import deployment_words, frontier_report
from stas_neuro.report.frontier_file import frontier_of, read_frontiers

SPACE = Space(
    policies=("raster", "image"),
    epsilons=(0.1, 0.4),
    leads=(0.5,),
    strategies=("token-major",),
    fill=(0.1,),
    replicas=(1, "fill"),
)


FEW = replace(SPACE, policies=(), bits=(4,), fill=(), replicas=(1,))
"""Only networks with all and with fewer model steps."""


@pytest.fixture(scope="module")
def model() -> StasModel:
    return random_model(random_config({"accumulate": "raster", "stem": "sps"}, 7).replace(time_steps=3), 7)


@pytest.fixture(scope="module")
def data(model: StasModel) -> LabelledImages:
    config, rng = model.config, np.random.default_rng(1)
    shape = (40, config.in_channels, config.image_size, config.image_size)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    return LabelledImages(images, rng.integers(0, config.num_classes, 40))


@pytest.fixture(scope="module")
def found(model: StasModel, data: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Optimised:
    folder = tmp_path_factory.mktemp("points")
    result = optimise(model, data, rivals={"other": model}, space=SPACE, min_accuracy=0.0, folder=folder)
    return replace(
        result,
        points=tuple(replace(point, bundle=str(folder / str(point.bundle))) for point in result.points),
    )


def test_a_point_is_what_a_run_of_its_bundle_costs(found: Optimised, data: LabelledImages) -> None:
    odd = data.select(slice(1, None, 2))
    for point in found.points:
        bundle = load_bundle(Path(str(point.bundle)))
        trace = api.run(bundle, odd, arithmetic="fixed")
        cost = estimate(trace.activity, "loihi2", point.candidate.deployment)
        assert cost.energy_j == point.price.energy_j and cost.latency_s == point.price.latency_s
        assert (trace.predictions == odd.labels).mean() == point.accuracy
        assert point.accuracy_low <= point.accuracy <= point.accuracy_high


def test_predictions_are_of_the_same_size(found: Optimised) -> None:
    for point in found.points:
        predicted, price = point.candidate.price.energy_j.value, point.price.energy_j.value
        assert point.errors["energy_j"] == predicted / price - 1
        assert abs(point.errors["energy_j"]) < 0.2
        # On the images that it was made for, only positions of cores differ.
        assert all(abs(error) < 0.02 for error in point.errors_same_images.values())


def test_no_point_of_the_frontier_beats_another(found: Optimised) -> None:
    points = [each.candidate for each in found.points if "frontier" in each.roles]
    costs = np.array(
        [(each.price.energy_j.value, each.price.latency_s.value, -each.accuracy) for each in points]
    )
    for row in costs:
        assert not ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
    assert found.left_out == 0


def test_rivals_and_the_best_are_always_shown(found: Optimised) -> None:
    roles = {role for point in found.points for role in point.roles}
    rivals = {"full network", "one step", "fewer steps", "image exit", "other"}
    assert roles == {"frontier", "best", "token halting", *rivals}
    best = found.best
    assert best is not None
    assert best.candidate.price.energy_j.value == min(
        point.candidate.price.energy_j.value for point in found.points
    )
    full = next(point for point in found.points if point.candidate.variant.family == "full")
    assert full.p_value is None


def test_every_combination_is_priced_or_refused(found: Optimised) -> None:
    # Full, 1 and 2 steps, image at 2 and 3 steps, also pipelined; raster, also late, at 2 epsilons, not of
    # the rival.
    assert found.networks == 11 + 7
    assert not any("halted tokens" in reason for reason in found.refused)  # pipelines that exit are priced
    assert found.deployments + sum(found.refused.values()) == found.networks * 2 * 2
    document = found.to_json()
    assert len(document["points"]) == len(found.points)


def test_what_cannot_be_searched_is_refused(model: StasModel, data: LabelledImages) -> None:
    with pytest.raises(InputError, match="has no labels"):
        optimise(model, LabelledImages(data.images, None))
    with pytest.raises(InputError, match="give at least 32"):
        optimise(model, data.select(slice(0, 31)))
    with pytest.raises(InputError, match="both limit the accuracy"):
        optimise(model, data, min_accuracy=0.5, max_drop=0.1)
    with pytest.raises(InputError, match="there is no objective 'heat'"):
        optimise(model, data, objective="heat")  # type: ignore[arg-type]


@pytest.mark.slow
def test_processes_find_the_same(model: StasModel, data: LabelledImages, found: Optimised) -> None:
    again = optimise(model, data, rivals={"other": model}, space=SPACE, min_accuracy=0.0, jobs=2)
    assert [point.candidate for point in again.points] == [point.candidate for point in found.points]
    assert [point.price for point in again.points] == [point.price for point in found.points]


@pytest.fixture(scope="module")
def several(model: StasModel, data: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search for two chips in both modes, with networks of 4 bits."""
    folder = tmp_path_factory.mktemp("several") / "made" / "with its parents"
    targets = targets_of(("loihi2", "spinnaker2"), ("single", "stream"))
    found = optimise_all(model, data, targets, space=FEW, folder=folder)
    (folder / "found.pickle").write_bytes(pickle.dumps(found))
    return folder


def test_several_searches_find_what_each_finds_alone(
    several: Path, model: StasModel, data: LabelledImages
) -> None:
    found = pickle.loads((several / "found.pickle").read_bytes())
    assert [(each.profile, each.mode) for each in found] == [
        ("loihi2", "single"), ("loihi2", "stream"), ("spinnaker2", "single"), ("spinnaker2", "stream")
    ]  # fmt: skip
    alone = optimise(model, data, mode="stream", space=FEW)
    assert [point.candidate for point in found[1].points] == [point.candidate for point in alone.points]
    assert [point.price for point in found[1].points] == [point.price for point in alone.points]
    for each in found:
        for point in each.points:
            bundle = load_bundle(several / each.name / str(point.bundle))
            assert bundle.mapping is not None and bundle.mapping.profile == each.profile


def test_without_static_power_energies_are_of_events_only(several: Path) -> None:
    *_, found = pickle.loads((several / "found.pickle").read_bytes())
    assert found.events_only == "not published for the chip"
    assert found.points and all(point.estimate.energy_j is None for point in found.points)
    assert all(point.price.energy_j == point.estimate.dynamic_energy_j for point in found.points)


def test_full_networks_of_other_bits_are_compared_with_that_of_8(several: Path) -> None:
    found, *_ = pickle.loads((several / "found.pickle").read_bytes())
    full = next(point for point in found.points if point.candidate.variant.family == "full")
    assert full.candidate.variant.options["bits"] == 4 and full.p_value is not None


def test_pictures_and_tables_name_what_they_show(found: Optimised, several: Path) -> None:
    *_, events = pickle.loads((several / "found.pickle").read_bytes())
    for result in (found, events):
        chart = frontier_chart(result, run="tiny")
        title, below = heading(chart)
        assert (
            result.profile in title and "tiny" in below and "estimated" in below and "not measured" in below
        )
        points = frontier_of(result).points
        assert {point.family_words for point in points} <= legends(chart)
        marks = [row for row in rows_with(chart, "network") if "ring" not in row]
        assert [(row["energy"], row["accuracy"]) for row in marks] == [
            (point.price.energy_j.value, point.accuracy) for point in result.points
        ]
        assert any("events" in axis for axis in axis_titles(chart)) == (result.events_only is not None)
        spans = [row for row in rows_with(chart, "low") if "energy:" in row["line"]]
        drawn = chart.to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"]
        assert spans and all(drawn[0] <= row["low"] <= row["high"] <= drawn[1] for row in spans)
        with io.StringIO() as file:
            Console(file=file, width=250).print(frontier_report(result))
            assert ("of events only" in file.getvalue()) == (result.events_only is not None)
            assert all(point.candidate.variant.name in file.getvalue() for point in result.points)
        with io.StringIO() as file:
            Console(file=file, width=80).print(frontier_report(result))
            shown = set(file.getvalue().split())
        for point in result.points:
            names = f"{point.candidate.variant.name} {deployment_words(point)} {', '.join(point.roles)}"
            assert set(names.split()) <= shown, "a table splits a name"


def test_frontiers_are_read_from_their_files(several: Path, tmp_path: Path) -> None:
    found = pickle.loads((several / "found.pickle").read_bytes())
    (several / "frontier.json").write_text(json.dumps([each.to_json() for each in found]))
    named = (replace(frontier_of(each), name=several.name) for each in found)
    assert read_frontiers(several) == tuple(named)
    document = found[0].to_json()
    del document["points"][0]["price"]["energy_j"]["low"]
    for content, message in (
        (json.dumps(document), "points.0.price.energy_j.low"),
        ("[1]", "is not a JSON object"),
        ("{", "broken.json"),
    ):
        (tmp_path / "broken.json").write_text(content)
        with pytest.raises(InputError, match=re.escape(message)):
            read_frontiers(tmp_path / "broken.json")


def test_the_last_line_says_where_the_files_are() -> None:
    assert written_words(Path("best"), ["loihi2-single"]).startswith("best has a bundle")
    of_two = written_words(Path("best"), ["loihi2-single", "loihi2-stream"])
    assert of_two.startswith("best/loihi2-single, best/loihi2-stream have a bundle")


def test_chips_without_figures_and_repeated_targets_are_refused(
    model: StasModel, data: LabelledImages
) -> None:
    what = (
        r"no deployment on speck can be priced: networks cannot be placed \(.*events have no.*steps have no"
    )
    with pytest.raises(InputError, match=what):
        optimise(model, data, profile="speck", space=FEW)
    with pytest.raises(InputError, match="loihi2-single is given twice"):
        targets_of(("loihi2", "loihi1", "loihi2"), ("single",))
    with pytest.raises(InputError, match="there is no mode 'fast'"):
        targets_of(("loihi2",), ("fast",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there are no profiles; give at least one"):
        targets_of((), ("single",))


def test_networks_of_fewer_steps_take_fewer_frames() -> None:
    config = random_config({"accumulate": "off", "stem": "sps", "event_input": True}, 7).replace(time_steps=3)
    rng = np.random.default_rng(2)
    shape = (40, 3, config.in_channels, config.image_size, config.image_size)
    frames = LabelledImages(
        rng.integers(0, 2, shape).astype(np.uint8) * 255, rng.integers(0, config.num_classes, 40)
    )
    space = replace(FEW, policies=("image",), bits=(8,))
    found = optimise(random_model(config, 7), frames, space=space, min_accuracy=0.0, points=1)
    # With 1, 2 and 3 steps, and image exit at 2 and 3, also pipelined, by the mean and by the sum of logits.
    assert found.networks == 3 + 8
    assert {"one step", "fewer steps", "image exit"} <= {
        role for point in found.points for role in point.roles
    }
