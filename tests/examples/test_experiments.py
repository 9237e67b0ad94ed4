"""The pictures and tables of the experiments, of the smallest tables, and what they measure."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.paths import EXAMPLES

import stas_neuro
from stas_neuro.bundle import save_bundle
from stas_neuro.files import toml_table
from stas_neuro.report.charts import write_chart

Row = dict[str, Any]
MODULES = ("experiments", "experiment_charts", "experiment_panels", "measures")
DATA = str(EXAMPLES / "data" / "fashion-mnist-512.npz")
PRICES = {"estimate.profile": ["loihi1", "loihi2"], "estimate.mode": ["single", "stream"]}
DEPLOYED = ["loihi1, single", "loihi1, stream", "loihi2, single", "loihi2, stream"]
AXES: dict[str, dict[str, list[Any]]] = {
    "epsilon": {"compile.epsilon": [0.0, 0.3], **PRICES},
    "accumulation": {"compile.accumulate": ["off", "raster"], **PRICES},
    "quantisation": {"compile.bits": [4, 8]},
    "width": {
        "compile.accumulate": ["off", "raster"],
        "estimate.profile": ["loihi1", "spinnaker2"],
        "estimate.scale-width": ["64", "128"],
        "estimate.mode": ["single", "stream"],
    },
    "rivals": {
        "measure.policy": ["halting", "image", "random", "rate", "score"],
        "measure.epsilon": [0.1, 0.5],
    },
    "steps": {
        "train.time-steps": [1, 4],
        "train.accumulate": ["off", "raster"],
        "train.seed": [0, 1],
        **PRICES,
    },
    "stems": {
        "train.stem": ["sps", "one-step"],
        "train.accumulate": ["off", "raster"],
        "train.seed": [0, 1],
        **PRICES,
    },
}
"""Axes of each experiment."""
MEASURED: dict[str, Row] = {
    "epsilon": {"zombies": 0.02, "never": 0.05, "images": 8} | {f"bin{place}": 1 / 15 for place in range(15)},
    "quantisation": {
        "same_visits": 0.9,
        "same_halt": 0.6,
        "near_halt": 0.8,
        "same_class": 0.95,
        "fixed_accuracy": 0.91,
        "fixed_visits": 0.4,
        "images": 32,
    },
    "rivals": {
        "accuracy": 0.9,
        "visits": 0.375,
        "only_halting": 3,
        "only_rival": 1,
        "p": 0.625,
        "images": 200,
    },
    "stems": {"cosine_stem": 0.7, "cosine_block 0": 0.8, "images": 60},
}
"""What the measure of an experiment returns, where it has one."""
EXPECTED = {
    "epsilon": [
        "energy of an image (uJ)",
        "accuracy (%)",
        "tokens (%)",
        "zombies: reach",
        "epsilon",
        *DEPLOYED,
    ],
    "accumulation": [
        "energy of an image (uJ)",
        "visits that are made (%)",
        "rectangular",
        "single",
        "stream",
    ],
    "quantisation": ["bits of a weight", "share (%)", "visits that are equal", "images with the same class"],
    "width": ["width D", "saved by halting (%)", "spinnaker2, events only", "raster, stream"],
    "rivals": ["accuracy (%)", "visits that halting makes", "exit of whole images", "at random", "38 %"],
    "steps": ["time steps T", "energy of an image (uJ)", "accumulation", "2 seeds", *DEPLOYED],
    "stems": ["cosine to the step before", "tokens behind", "block 0", "one-step", "raster"],
}
"""What must be readable in a picture."""
EXPECTED["accumulation"].remove("rectangular")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    paths = [str(EXAMPLES), str(EXAMPLES / "sweeps")]
    sys.path[:0] = paths
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if path not in paths]


def made_up(name: str) -> list[Row]:
    """Return a row for each cell, in which energy grows from cell to cell and seeds differ in accuracy."""
    axes = AXES[name]
    found = []
    for place, values in enumerate(itertools.product(*axes.values())):
        cell = dict(zip(axes, values, strict=True))
        row = {"error": None, **cell}
        row |= {f"measure_{what}": value for what, value in MEASURED.get(name, {}).items()}
        if "estimate.profile" in cell:
            whole = 1e-4 * (1 + place) if cell["estimate.profile"].startswith("loihi") else None
            ends = {"": 1, "_low": 0.5, "_high": 3}
            row |= {f"estimate_energy_j{end}": whole and whole * by for end, by in ends.items()}
            row["estimate_dynamic_energy_j"] = 5e-5 * (1 + place)
        if name not in ("quantisation", "rivals"):
            right = 0.9 + 0.02 * cell.get("train.seed", 0)
            row |= {"run_accuracy": right, "run_token_ratio": 0.4, "run_images": 100}
        found.append(row)
    return found


def texts(path: Path) -> str:
    """Return what can be read in a picture."""
    return re.sub(r"<[^>]*>", "\n", path.read_text())


@pytest.mark.parametrize("name", AXES)
def test_a_picture_names_all_that_it_shows(name: str, modules: dict[str, ModuleType], tmp_path: Path) -> None:
    chart, _ = modules["experiments"].drawn(name, made_up(name))
    write_chart(tmp_path / "drawn.svg", chart)
    shown = texts(tmp_path / "drawn.svg")
    assert modules["experiments"].EXPERIMENTS[name][1] in shown
    for words in EXPECTED[name]:
        assert words in shown, words
    assert ("estimated from published and assumed figures" in shown) == (
        name not in ("quantisation", "rivals")
    )
    assert "{" not in shown and "undefined" not in shown and "NaN" not in shown


@pytest.mark.parametrize("name", AXES)
def test_the_axes_are_those_of_the_file(name: str, modules: dict[str, ModuleType]) -> None:
    given = dict(toml_table((EXAMPLES / "sweeps" / f"{name}.toml").read_bytes(), name, ""))
    tables = [given, *given.pop("together", [])]
    axes = {
        f"{kind}.{option}"
        for table in tables
        for kind, options in table.items()
        for option, value in options.items()
        if isinstance(value, list)
    }
    assert axes == set(AXES[name])
    assert set(modules["experiments"].EXPERIMENTS) == {
        path.stem for path in (EXAMPLES / "sweeps").glob("*.toml")
    }


def test_tables_have_a_row_for_each_case_with_units_and_intervals(modules: dict[str, ModuleType]) -> None:
    tables = {name: modules["experiments"].drawn(name, made_up(name))[1] for name in AXES}
    lengths = {name: len(table) for name, table in tables.items()}
    assert lengths == {
        "epsilon": 2,
        "accumulation": 2,
        "quantisation": 2,
        "width": 4,
        "rivals": 10,
        "steps": 4,
        "stems": 4,
    }
    first = tables["accumulation"][0]
    assert first["loihi1, stream, uJ"] == "200 (100 to 600)"
    assert first["accuracy, % (95 % interval)"] == "90.0 (82.6 to 94.5)"
    assert tables["steps"][0]["accuracy, % (range of seeds)"] == "91.0 (90.0 to 92.0)"
    assert tables["steps"][0]["loihi1, single, uJ"] == "300 (150 to 900)"  # the mean of cells 1 and 5
    assert tables["stems"][0]["stem"] == "sps" and tables["stems"][0]["cosine, stem"] == 0.7
    printed = modules["experiments"].markdown(tables["quantisation"]).splitlines()
    assert printed[1] == f"|{'---|' * 7}" and printed[2].startswith("| 4 | 90 | 60 | 80 | 95 | 91 | 40 |")


def test_what_halting_saves_is_relative_to_the_same_chip_mode_and_width(
    modules: dict[str, ModuleType],
) -> None:
    cells = {("off", "64"): 1.0, ("raster", "64"): 1.5, ("off", "128"): 2.0, ("raster", "128"): 1.5}
    rows = [
        row | {"estimate_energy_j": cells[row["compile.accumulate"], row["estimate.scale-width"]]}
        for row in made_up("width")
        if row["estimate.profile"] == "loihi1"
    ]
    table = modules["experiment_charts"].width(rows)[1]
    assert [(row["D 64, %"], row["D 128, %"], row["pays from D"]) for row in table] == [
        (-50, 25, "64 to 128")
    ] * 2


def test_lines_of_zero_and_whiskers_are_drawn_where_they_belong(modules: dict[str, ModuleType]) -> None:
    panels = modules["experiment_panels"]
    listed = [{"x": 1, "y": -1.0, "y_low": -2.0, "y_high": 0.0, "of": "a"}, {"x": 2, "y": 1.0, "of": "b"}]
    titles = {"x": "x", "y": "y", "colour": "of"}
    drawn = panels.lines(listed, "x", "y", "of", **titles, ends=True).to_dict()
    assert [layer["mark"]["type"] for layer in drawn["layer"]] == ["rule", "rule", "line", "point"]
    (layer,) = panels.dots(listed, "x", "y", "of", **titles | {"ends": False}).to_dict()["layer"][1:]
    assert layer["encoding"]["xOffset"]["scale"]["domain"] == ["a", "b"]
    drawn = panels.dots(listed[1:], "x", "y", "of", **titles).to_dict()
    (layer,) = drawn["layer"]
    assert "xOffset" not in layer["encoding"] and layer["encoding"]["color"]["legend"] is None


def test_the_interval_of_a_share_is_wilsons(modules: dict[str, ModuleType]) -> None:
    low, high = modules["experiment_panels"].interval(0.9, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
    assert modules["experiment_panels"].interval(1.0, 10)[1] == pytest.approx(1)
    assert (
        modules["experiment_panels"].number(1291.2) == "1290"
        and modules["experiment_panels"].number(0) == "0"
    )


def test_scores_of_tokens_that_halted_reach_the_threshold(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.stas"
    compiled = stas_neuro.compile(EXAMPLES / "models" / "fashion-spikformer", bits=8)
    save_bundle(compiled, bundle)
    found = modules["measures"].scores(bundle, DATA, 2)
    shares = np.array([found[f"bin{place}"] for place in range(modules["measures"].BINS)])
    assert shares.sum() == pytest.approx(1) and found["images"] == 2
    assert shares[:10].sum() == pytest.approx(found["never"])  # bins below the threshold
    assert found["zombies"] <= shares[8:10].sum() + 1e-9


@pytest.mark.parametrize("policy", ["image", "random", "rate", "score"])
def test_rivals_make_as_many_visits_as_halting(policy: str, modules: dict[str, ModuleType]) -> None:
    model = str(EXAMPLES / "models" / "fashion-spikformer")
    halting = modules["measures"].rival(model, "halting", 0.3, DATA, 8)
    found = modules["measures"].rival(model, policy, 0.3, DATA, 8)
    assert halting["only_rival"] == halting["only_halting"] == 0 and halting["p"] == 1
    assert found["visits"] == pytest.approx(halting["visits"], abs=0.02 if policy != "image" else 0.13)
    assert found["accuracy"] - halting["accuracy"] == (found["only_rival"] - found["only_halting"]) / 8


def test_tokens_of_a_stem_that_runs_once_do_not_change(modules: dict[str, ModuleType]) -> None:
    found = modules["measures"].similarity(EXAMPLES / "models" / "fashion-spikformer", DATA, 2)
    assert found["cosine_stem"] == pytest.approx(1, abs=1e-6)
    assert 0 < found["cosine_block 0"] < 1
