"""Activity files, alone or in a run's directory: read, and priced in every way on a few chips."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from energy_runs import run

from fuzz.files import Files
from fuzz.networks import activities
from fuzz.target import Target, may_refuse
from stas_neuro.activity import write_activity
from stas_neuro.chips import load_profile
from stas_neuro.cli.runs import read_run
from stas_neuro.energy import GATINGS, SCHEDULES, compare, compare_schedules, estimate
from stas_neuro.report import comparison_csv, comparison_report, estimate_report, schedules_report

PROFILES = ("loihi2-gated-whatif", "loihi1", "gpu")


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
    profiles = [load_profile(name) for name in PROFILES]
    for profile in profiles:
        for gating in (None, *GATINGS):
            for schedule in (None, *SCHEDULES):
                with may_refuse():
                    cost = estimate(activity, profile, gating, schedule=schedule)
                    json.dumps(cost.to_json(), allow_nan=False)
        with may_refuse():
            estimate_report(estimate(activity, profile))
    with may_refuse():
        saved = compare(activity, {"itself": activity, "other": run(halting=False)}, profiles)
        json.dumps(saved.to_json(), allow_nan=False)
        comparison_csv(saved)
        comparison_report(saved)
    with may_refuse():
        schedules_report(compare_schedules({"it": activity}, profiles))
    write_activity(activity, output / "again.json")
    assert read_run(output / "again.json") == activity


TARGET = Target("activity", make_seeds, read)
