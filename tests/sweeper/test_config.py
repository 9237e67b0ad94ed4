"""The file of a sweep: what it means, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy_sweeps import KINDS, plan_of

from stas_neuro.errors import InputError
from stas_neuro.sweeper import first_cells, read_plan
from stas_neuro.sweeper.plan import uniform


def test_lists_are_axes_in_the_order_of_steps(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        "[price]\nmode = [1, 2]\n[compile]\nwidth = [3, 4, 5]\nfail = 0\n[run]\nimages = [6, false]\n"
    )
    plan = read_plan(path, KINDS)
    assert plan.count == 12 and plan.group_size == 2
    assert [each.name for each in plan.columns] == ["compile.width", "run.images", "price.mode"]
    cells = first_cells(plan, 12)
    assert cells[0] == {"compile.width": 3, "run.images": 6, "price.mode": 1}
    assert cells[11] == {"compile.width": 5, "run.images": None, "price.mode": 2}
    for number, cell in enumerate(cells):
        options = {name: plan.options(number, name) for name in ("compile", "run", "price")}
        assert options["compile"] == {"fail": 0, "width": cell["compile.width"]}
        assert options["run"]["images"] == (cell["run.images"] or False)
        assert options["price"] == {"mode": cell["price.mode"]}
        assert [each.name for each in plan.steps(number)] == [
            each.name for each in plan.steps(number // 2 * 2)
        ]


def test_options_that_change_together_are_one_axis() -> None:
    together = [{"compile": {"width": [1, 2]}, "price": {"mode": [10, 20]}}]
    plan = plan_of({"compile": {"depth": [5, 6]}, "price": {"log": [7, 8]}, "together": together})
    assert plan.count == 8
    cells = first_cells(plan, 8)
    assert {(cell["compile.width"], cell["price.mode"]) for cell in cells} == {(1, 10), (2, 20)}
    assert len({tuple(cell.values()) for cell in cells}) == 8


def test_steps_have_equal_names_only_if_all_before_them_is_equal() -> None:
    def names(**compile: Any) -> list[str]:
        plan = plan_of({"compile": compile, "run": {"images": 1}})
        return [step.name for step in plan.steps(0)]

    assert names(width=1) == names(width=1)
    assert not {*names(width=1)} & {*names(width=2)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "there is no step"),
        ({"compiel": {}, "run": {}}, "there is no step or entry 'compiel'; did you mean compile"),
        ({"run": {"imgaes": 1}}, "no option of run 'imgaes'; did you mean images"),
        ({"run": {"images": "many"}}, "run.images is 'many'; give a whole number"),
        ({"run": {"images": [1, "x", 3]}}, "run.images is 'x'"),
        ({"run": {"images": []}}, "run.images is an empty list"),
        ({"run": {"images": [[1]]}}, r"run.images is \[1\]"),
        ({"run": 3}, r"run is 3; write a table: \[run\]"),
        ({"run": {}, "shards": 0}, "shards is 0"),
        ({"price": {}, "shards": 2}, "no run to split"),
        ({"run": {}, "together": {"run": {"images": [1]}}}, "together is no list of tables"),
        ({"run": {}, "together": [{"price": {"mode": [1]}}]}, "no step in together 'price'"),
        ({"run": {"seed": 1}, "together": [{"run": {"seed": [1]}}]}, "run.seed is given twice"),
        ({"run": {}, "together": [{"run": {"seed": 1}}]}, "together: run.seed is 1; give a list"),
        (
            {"run": {}, "together": [{"run": {"seed": [1, 2], "images": [1]}}]},
            "run.seed has 2, run.images has 1",
        ),
        ({"run": {"seed": list(range(20_000)), "images": list(range(20_000))}}, "400000000 combinations"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(config)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        plan_of({"run": {"imgaes": 1, "seed": "x"}, "compile": {"width": []}})
    assert len(caught.value.lines) == 3 and "(and 2 more problems)" in str(caught.value)


def test_values_of_a_column_have_one_type() -> None:
    assert uniform([1, 2.5, None]) == [1.0, 2.5, None]
    assert uniform([1, "fill"]) == ["1", "fill"]
    assert uniform([True, False]) == [True, False]
    (column,) = plan_of({"run": {"seed": [5, False]}}).columns
    assert column.values == (5, None)
    assert column.places(np.array([0, 1])).tolist() == [0, 1]
