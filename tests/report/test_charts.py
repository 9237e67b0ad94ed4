"""Charts show the numbers they are made from, name what they show, and become files."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.charts import axis_titles, heading, legends, rows_with
from support.energy_runs import run, without
from support.mapped_runs import CHIP, HALTED

from stas_neuro.activity import Activity
from stas_neuro.chips import load_profile
from stas_neuro.energy import Comparison, compare, core_work, estimate
from stas_neuro.energy.gating import turns
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.report.charts import (
    chart_output,
    core_work_chart,
    cores_chart,
    costs_chart,
    exits_chart,
    halting_chart,
    layers_chart,
    placement_chart,
    savings_chart,
    steps_chart,
    write_chart,
)
from stas_neuro.report.charts.axes import log_ticks
from stas_neuro.report.refused import Refused

HOLEY = replace(without(load_profile("loihi1"), "energy.score_lookup"), name="holey")
COST = estimate(run(), "loihi2")
ON_CORES = estimate(HALTED, CHIP)


def saved() -> Comparison:
    profiles = [*map(load_profile, ("cmos45", "loihi2")), HOLEY]
    return compare(run(), {"stage 1": run(halting=False)}, profiles)


def visits() -> Any:
    """Two images, two steps, three blocks, four tokens."""
    made = np.zeros((2, 2, 3, 4), dtype=np.bool_)
    made[0, :, :, 1] = True  # the upper right token takes all visits
    made[1, 0, 0] = True  # each token takes one
    return made


def pictures() -> Any:
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    images[0, 0, :, 4:] = 255
    return images


CHARTS: dict[str, Callable[[], Any]] = {
    "energy": lambda: costs_chart({"mine": [COST, Refused(profile="tiny", reason="too small")]}),
    "latency": lambda: costs_chart({"mine": [COST]}, "latency"),
    "layers": lambda: layers_chart(COST, run="mine"),
    "steps": lambda: steps_chart(COST, run="mine"),
    "cores": lambda: cores_chart(ON_CORES, run="mine"),
    "placement": lambda: placement_chart(ON_CORES, HALTED.cores, run="mine"),
    "work": lambda: core_work_chart(core_work(HALTED, CHIP), run="mine"),
    "halting": lambda: halting_chart(pictures(), visits(), run="mine"),
    "exits": lambda: exits_chart({"mine": visits()}),
    "savings": lambda: savings_chart({"mine": saved()}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_a_title_the_run_units_legends_and_the_basis_of_its_figures(name: str) -> None:
    chart = CHARTS[name]()
    title, below = heading(chart)
    assert title and "mine" in below and "estimated" in below and "not measured" in below
    legends(chart)  # none is hidden
    units = {"energy": ", J", "latency": ", s", "layers": ", J", "steps": ", J", "cores": ", J"}
    assert any(units.get(name, "") in axis for axis in axis_titles(chart))


def test_costs_have_both_intervals_and_refused_chips_keep_their_row() -> None:
    refused = [
        Refused(profile="loihi2", reason="it has 9000 neurons"),
        Refused(profile="tiny", reason="x" * 300),
    ]
    speck = estimate(run(), "speck")
    chart = costs_chart({"mine": [COST, speck], "other": refused})
    (mark,) = rows_with(chart, "value")
    assert COST.energy_j is not None and COST.structural_range is not None
    assert (mark["chip"], mark["run"], mark["value"]) == ("loihi2", "mine", COST.energy_j.value)
    assert mark["status"].startswith("what-if") == bool(COST.what_if)
    lines = {row["line"]: (row["from"], row["to"]) for row in rows_with(chart, "line")}
    over = COST.structural_range.energy_j
    assert over is not None
    assert sorted(lines.values()) == sorted([(COST.energy_j.low, COST.energy_j.high), (over.low, over.high)])
    assert {mark["status"], *lines, "mine", "other"} <= legends(chart)
    reasons = {(row["chip"], row["run"]): row for row in rows_with(chart, "why")}
    assert set(reasons) == {("speck", "mine"), ("loihi2", "other"), ("tiny", "other")}
    assert reasons["loihi2", "other"]["text"] == "other: not priced: it has 9000 neurons"
    assert reasons["tiny", "other"]["why"] == "x" * 300 and len(reasons["tiny", "other"]["text"]) < 120
    alike = {label: [COST, Refused(profile="tiny", reason="too small")] for label in ("mine", "other")}
    assert [row["text"] for row in rows_with(costs_chart(alike), "why")] == [
        "all runs: not priced: too small"
    ]
    with pytest.raises(InputError, match="no chip has a price for the latency"):
        costs_chart({"mine": refused}, "latency")


def test_layers_steps_and_cores_sum_to_the_dynamic_energy() -> None:
    assert ON_CORES.dynamic_energy_j is not None
    for chart in (layers_chart(ON_CORES), steps_chart(ON_CORES)):
        unit = [row for row in rows_with(chart, "value") if row["text"].split(" (")[0].endswith("J")]
        assert sum(row["value"] for row in unit) == pytest.approx(ON_CORES.dynamic_energy_j.value)
    bars = rows_with(cores_chart(ON_CORES), "core")
    assert [bar["value"] for bar in bars] == [
        core.dynamic_energy_j.value for core in ON_CORES.cores_breakdown if core.core is not None
    ]
    with pytest.raises(InputError, match="the cores of the run on cmos45 are unknown"):
        cores_chart(estimate(run(), "cmos45"))
    with pytest.raises(InputError, match="the energy of events on speck is unknown"):
        layers_chart(estimate(run(), "speck"))


def counted_by_hand(activity: Activity) -> dict[tuple[int, int], float]:
    """Sum operations and updates by core and hardware step, one row and step at a time."""
    ticks = hardware_steps(activity, "raster")
    turn = turns(activity, ticks)
    found: dict[tuple[int, int], float] = {}
    for row, layer in enumerate(activity.layers):
        for step in range(len(activity.steps)):
            if layer.core is None or turn[row, step] < 0:
                continue
            kinds = ("synops", "macs", "updates_active", "updates_inactive", "updates_gated", "readout_macs")
            work = sum(activity.counts[kind][:, row, step].mean() for kind in kinds)
            # a score costs its lookup, and the update that adds it
            work += 2 * activity.counts["score_lookups"][:, row, step].mean()
            place = layer.core, int(turn[row, step])
            found[place] = found.get(place, 0.0) + work
    return {place: work for place, work in found.items() if work}


def test_the_work_of_cores_is_what_was_counted() -> None:
    work = core_work(HALTED, CHIP)
    cells = rows_with(core_work_chart(work), "n")
    shown = {(row["core"], row["step"]): row["n"] for row in cells}
    by_hand = counted_by_hand(HALTED)
    assert shown.keys() == by_hand.keys()
    # Beyond that only the spikes that keep tokens alive, which have synapses too.
    (gates,) = (event.count for event in ON_CORES.events if event.event == "gate_synops")
    assert sum(shown.values()) == sum(by_hand.values()) + gates
    assert (work.cores, work.hardware_steps, work.placed) == (4, len(hardware_steps(HALTED, "raster")), True)
    halves = core_work(HALTED, CHIP, most_cores=2, most_steps=2)
    assert halves.operations.shape == (2, 2) and halves.cores_in_group == 2
    steps = np.array([halves.steps_in_group, work.hardware_steps - halves.steps_in_group])
    assert (halves.operations * steps).sum() * 2 == pytest.approx(work.operations.sum())
    with pytest.raises(InputError, match="the work of cores on cmos45 is unknown"):
        core_work(run(), load_profile("cmos45"))


def test_a_placement_has_each_core_on_its_tile() -> None:
    chart = placement_chart(ON_CORES, HALTED.cores, tiles=(4, 4))
    cells = {row["core"]: row for row in rows_with(chart, "tile")}
    for number, site in enumerate(HALTED.cores):
        cell = cells[number]
        assert (cell["chip"], cell["tile"]) == (site.chip, f"{site.x},{site.y}")
        assert (
            site.x <= cell["x"] < cell["x2"] <= site.x + 1 and site.y <= cell["y"] < cell["y2"] <= site.y + 1
        )
        cost = next(core for core in ON_CORES.cores_breakdown if core.core == number)
        assert cell["energy"] == cost.dynamic_energy_j.value
    with pytest.raises(InputError, match="no placement"):
        placement_chart(COST, run().cores)
    with pytest.raises(InputError, match="no price for the cores"):
        placement_chart(COST, HALTED.cores)


def test_savings_go_from_the_run_without_halting_to_that_with_it() -> None:
    result = saved()
    chart = savings_chart({"raster": result, "block": result})
    panels = [title for title in panel_titles(chart) if title]
    assert panels == ["raster, relative to stage 1", "block, relative to stage 1"]
    assert "raster, block" in heading(chart)[1]
    bars = [row for row in rows_with(chart, "part") if row["chip"].startswith("cmos45")]
    # 36 operations become 32, all of it operations.
    (saved_bar,) = {(row["from"], row["to"]) for row in bars if "operations" in row["part"]}
    assert saved_bar == (1.0, pytest.approx(32 / 36))
    marks = {(row["mark"], row["at"]) for row in rows_with(chart, "mark") if row["chip"].startswith("cmos45")}
    assert dict(marks) == {"without halting: 100 %": 1.0, "with halting": pytest.approx(32 / 36)}
    assert {row["mark"] for row in rows_with(chart, "mark")} <= legends(chart)
    assert not any("gating" in name for name in legends(chart))  # nothing is gated
    (refused,) = {row["text"] for row in rows_with(chart, "chip", "text") if row["chip"].startswith("holey")}
    assert refused.startswith("not compared: profile holey has no energy.score_lookup")
    with pytest.raises(InputError, match="no chip could be priced both"):
        savings_chart({"raster": replace(result, rows=())})


def panel_titles(chart: Any) -> list[str]:
    return [panel["title"]["text"] for panel in chart.to_dict()["vconcat"]]


def test_a_halting_map_has_a_cell_a_token_and_the_image_above_it() -> None:
    chart = halting_chart(pictures(), visits(), ["a caption", "another"])
    cells = rows_with(chart, "visits")
    assert [(row["row"], row["column"], row["visits"]) for row in cells][:4] == [
        (0, 0, 0), (0, 1, 6), (1, 0, 0), (1, 1, 0)
    ]  # fmt: skip
    assert {row["visits"] for row in cells[4:]} == {1}
    assert "a caption" in str(chart.to_dict()) and "mean 1.50 visits" in str(chart.to_dict())
    first = rows_with(chart, "url")[0]["url"].removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(first))) as picture:
        assert picture.getpixel((1, 1)) == (0, 0, 0)
        assert picture.getpixel((picture.width - 2, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("images", "seen", "captions", "message"),
    [
        ((0, 1, 4, 4), (0, 1, 1, 4), (), "images have shape"),
        ((1, 4, 4), (1, 1, 1, 4), (), "images have shape"),
        ((2, 1, 4, 4), (1, 1, 1, 4), (), "visits have shape"),
        ((1, 1, 4, 4), (1, 1, 1, 0), (), "visits have shape"),
        ((1, 1, 4, 4), (1, 1, 1, 5), (), "5 tokens do not form a grid"),
        ((1, 1, 4, 4), (1, 1, 1, 4), ("a", "b"), "2 captions"),
    ],
)
def test_maps_refuse_what_does_not_belong_together(
    images: tuple[int, ...], seen: tuple[int, ...], captions: Sequence[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        halting_chart(np.zeros(images), np.zeros(seen, np.bool_), captions)


def test_maps_of_colours_rectangles_and_frames() -> None:
    rng = np.random.default_rng(0)
    wide = halting_chart(rng.normal(size=(1, 2, 6, 12)), rng.random((1, 4, 2, 8)) < 0.5)
    assert max(row["column"] for row in rows_with(wide, "visits")) == 3
    halting_chart(rng.integers(0, 256, (1, 5, 3, 4, 4)).astype(np.uint8), np.ones((1, 5, 1, 4), np.bool_))


def test_exits_count_tokens_and_images() -> None:
    chart = exits_chart({"mine": visits()})
    shares = [row["share"] for row in rows_with(chart, "share")]
    tokens, images = shares[:7], shares[7:]
    assert tokens == [3 / 8, 4 / 8, 0, 0, 0, 0, 1 / 8]
    assert images == [0, 1 / 2, 1 / 2]
    with pytest.raises(InputError, match="no visits"):
        exits_chart({"mine": visits()[:0]})


def test_log_axes_are_labelled() -> None:
    assert log_ticks(1.5e-6, 6e-5) == [2e-6, 5e-6, 1e-5, 2e-5, 5e-5]
    assert log_ticks(1e-6, 1.1e-3) == [1e-6, 1e-5, 1e-4, 1e-3]


def test_files_are_svg_or_png_by_suffix_and_only_ours_are_replaced(tmp_path: Path) -> None:
    chart = exits_chart({"mine": visits()})
    svg, png = tmp_path / "new" / "exits.svg", tmp_path / "exits.PNG"
    write_chart(svg, chart)
    assert svg.read_text().startswith("<svg") and "When tokens and images stop" in svg.read_text()
    write_chart(png, chart)
    with Image.open(png) as picture:
        assert picture.format == "PNG" and picture.info["Software"] == "stas-neuro" and picture.width > 1000
    for path in (svg, png):
        with pytest.raises(InputError, match="exists"):
            write_chart(path, chart)
        chart_output(path, force=True).check_free()
    (tmp_path / "other.svg").write_text("<svg></svg>")
    with pytest.raises(InputError, match=r"other.svg exists and is not a picture of stas-neuro"):
        write_chart(tmp_path / "other.svg", chart, force=True)
    with pytest.raises(InputError, match=r"'.pdf' is no kind of picture; use .svg or .png"):
        write_chart(tmp_path / "exits.pdf", chart)
