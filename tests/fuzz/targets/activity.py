"""Activity files, alone or in a run's directory: read, and priced in every way on a few chips."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from support.energy_runs import run

from fuzz.files import Files
from fuzz.networks import activities
from fuzz.target import Target, may_refuse, pick
from stas_neuro.activity import Activity, write_activity
from stas_neuro.chips import load_profile
from stas_neuro.cli.runs import read_run
from stas_neuro.energy import GATINGS, SCHEDULES, Deployment, compare, compare_schedules, estimate
from stas_neuro.report import (
    comparison_csv,
    comparison_report,
    estimate_report,
    schedules_report,
)
from stas_neuro.report.charts import savings_chart

known = cache(load_profile)
PROFILES = ("loihi2-gated-whatif", "loihi1", "gpu")


DEPLOYED: list[dict[str, Any]] = [
    {},
    {"mode": "stream", "contexts": 3, "stem": "apart"},
    {"mode": "stream", "replicas": "fill", "microcode": True},
    {"early_end": True, "idle_update": "skipped"},
    {"stem": "folded", "replicas": 2},
]


def make_seeds() -> Sequence[Files]:
    small = run()
    records = [small, run(halting=False), small + small.restrict(np.zeros(3, np.int64)), *activities()]
    records.append(replace(run(halting=False), visits=None))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "activity.json"
        seeds = []
        for record in records:
            write_activity(record, path)
            seeds.append({"activity.json": path.read_bytes()})
    return seeds


def read(inputs: Path, output: Path) -> None:
    activity = read_run(inputs)
    content = (inputs / "activity.json").read_bytes()
    ways = list(product(PROFILES, (None, *GATINGS), (None, *SCHEDULES)))
    for name, gating, schedule in pick(ways, content, 3):
        with may_refuse():
            options = pick(DEPLOYED, content)[0]
            cost = estimate(activity, known(name), Deployment(gating=gating, schedule=schedule, **options))
            json.dumps(cost.to_json(), allow_nan=False)
    with may_refuse():
        pick((show, compare_all, compare_with_itself, write), content)[0](activity, output)


def show(activity: Activity, output: Path) -> None:
    estimate_report(estimate(activity, known("loihi2-gated-whatif")))


def compare_all(activity: Activity, output: Path) -> None:
    saved = compare(
        activity, {"itself": activity, "other": run(halting=False)}, [known("loihi2-gated-whatif")]
    )
    json.dumps(saved.to_json(), allow_nan=False)
    comparison_csv({"it": saved})
    savings_chart({"it": saved}).to_dict()
    comparison_report(saved)


def compare_with_itself(activity: Activity, output: Path) -> None:
    schedules_report(compare_schedules({"it": activity}, [known("loihi1"), known("gpu")]))


def write(activity: Activity, output: Path) -> None:
    write_activity(activity, output / "again.json")
    assert read_run(output / "again.json") == activity


TARGET = Target("activity", make_seeds, read)
