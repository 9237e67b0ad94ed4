from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from energy_runs import run, without
from PIL import Image
from rich.console import Console, RenderableType

from stas_neuro.energy import compare, estimate, list_profiles, load_profile
from stas_neuro.errors import InputError
from stas_neuro.report import (
    comparison_report,
    estimate_report,
    halting_map,
    predictions_table,
    si,
    write_halting_map,
)
from stas_neuro.trace import Trace


def shown(renderable: RenderableType) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.0, "J", "0 J"),
        (1.23456e-5, "J", "12.3 uJ"),
        (999.6e-6, "J", "1 mJ"),
        (4.2e-13, "J", "420 fJ"),
        (1e-18, "s", "0.001 fs"),
        (1.0, "W", "1 W"),
        (30446, "", "30.4 k"),
        (7, "", "7"),
        (2.5e13, "", "2.5e+04 G"),
    ],
)
def test_si(number: float, unit: str, text: str) -> None:
    assert si(number, unit) == text


def trace() -> Trace:
    activity = run() + run(halting=True)
    return Trace(
        logits=np.array([[0.0, 1.0], [2.0, 1.0]]), visits=np.asarray(activity.visits), activity=activity
    )


def test_predictions() -> None:
    text = shown(predictions_table(trace(), np.array([1, 1]), ["cat", "dog [small]"]))
    assert [line.split() for line in text.splitlines() if "right" in line or "wrong" in line] == [
        ["0", "dog", "[small]", "dog", "[small]", "right", "3", "4"],
        ["1", "cat", "dog", "[small]", "wrong", "3", "4"],
    ]
    assert "2 images, token ratio 0.750, accuracy 0.5000 (1 of 2)" in text
    assert "accuracy" not in shown(predictions_table(trace()))
    assert len(shown(predictions_table(trace(), limit=1)).splitlines()) < len(text.splitlines())
    with pytest.raises(InputError, match="labels have shape"):
        predictions_table(trace(), np.array([1]))


@pytest.mark.parametrize("profile", list_profiles())
def test_an_estimate_shows_its_numbers_basis_sources_and_disclaimer(profile: str) -> None:
    cost = estimate(run(), profile)
    text = shown(estimate_report(cost))
    assert "not measured" in text
    assert si(cost.dynamic_energy_j.value, "J") in text
    for event in cost.events:
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{event.event} "))
        assert event.entry in line and event.basis in line and event.source in line
        assert si(event.energy_j.high, "J") in line
    for layer in cost.layers:
        assert layer.name in text
    flowing = " ".join(text.split())
    for sentence in (*cost.assumptions, *cost.sources.values(), *cost.unavailable.values()):
        assert " ".join(sentence.split()) in flowing
    short = shown(estimate_report(cost, details=False))
    assert "Sources" not in short and "not measured" in short


def test_a_comparison_shows_savings_and_what_is_missing() -> None:
    profiles = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2")]
    profiles.append(replace(without(load_profile("loihi1"), "energy.score_lookup"), name="holey"))
    result = compare(run(), {"stage [1]": run(halting=False)}, profiles)
    text = shown(comparison_report(result))
    lines = {line.split()[0]: line for line in text.splitlines() if "stage [1]" in line}
    assert list(lines) == ["cmos45", "loihi1", "loihi2", "holey"]
    for row in result.rows[1:3]:
        assert row.energy_saving is not None
        saving = row.energy_saving
        assert f"{saving.value:+.1%} ({saving.low:+.1%} to {saving.high:+.1%})" in lines[row.profile]
    assert all("raster / pipelined" in line for line in lines.values())
    assert "(dynamic only)" in lines["cmos45"] and "refused, see below" in lines["cmos45"]
    assert "lacks energy.score_lookup" in lines["holey"]
    assert "cmos45: an operation count has no time" in text
    assert "add [energy.score_lookup] with its source" in text
    assert "not measured" in text


def pixel(picture: Image.Image, x: int, y: int) -> Any:
    return picture.getpixel((x, y))


DARK, LIGHT = (68, 1, 84), (253, 231, 37)


def test_the_map_has_a_cell_a_token_darker_the_earlier_it_halted() -> None:
    images = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    images[0, 0, :, 4:] = 255
    visits = np.zeros((1, 2, 3, 4), dtype=np.bool_)
    visits[0, :, :, 1] = True  # the upper right token takes all visits, the others none
    picture = halting_map(images, visits, ["a caption"])
    top, side = 12 + 18, 192
    left = 12 + side + 12
    assert pixel(picture, 12 + 10, top + 10) == (0, 0, 0)
    assert pixel(picture, 12 + side - 10, top + 10) == (255, 255, 255)
    assert pixel(picture, left + side - 10, top + 10) == LIGHT
    for x, y in ((10, 10), (10, side - 10), (side - 10, side - 10)):
        assert pixel(picture, left + x, top + y) == DARK
    # The legend goes from none to all visits.
    below = top + side + 12 + 5
    assert pixel(picture, 12, below) == DARK
    assert pixel(picture, picture.width - 13, below) == LIGHT


def test_maps_of_several_images_are_written_as_png(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "maps" / "halting.png"
    write_halting_map(path, rng.normal(size=(3, 2, 6, 12)), rng.random((3, 4, 2, 8)) < 0.5)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (2 * 192 + 3 * 12, 12 + 3 * (18 + 192 + 12) + 2 * 18 + 12)
    colour = rng.integers(0, 256, (1, 3, 4, 4)).astype(np.uint8)
    drawn = halting_map(colour, np.ones((1, 1, 1, 4), np.bool_))
    assert pixel(drawn, 12 + 1, 12 + 18 + 1) == tuple(colour[0, :, 0, 0])


@pytest.mark.parametrize(
    ("images", "visits", "captions", "message"),
    [
        ((0, 1, 4, 4), (0, 1, 1, 4), (), "images have shape"),
        ((1, 4, 4), (1, 1, 1, 4), (), "images have shape"),
        ((2, 1, 4, 4), (1, 1, 1, 4), (), "visits have shape"),
        ((1, 1, 4, 4), (1, 1, 1, 0), (), "visits have shape"),
        ((1, 1, 4, 4), (1, 1, 1, 5), (), "5 tokens make no grid"),
        ((1, 1, 4, 4), (1, 1, 1, 4), ("a", "b"), "2 captions"),
    ],
)
def test_maps_refuse_what_does_not_belong_together(
    images: tuple[int, ...], visits: tuple[int, ...], captions: Sequence[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        halting_map(np.zeros(images), np.zeros(visits, np.bool_), captions)
