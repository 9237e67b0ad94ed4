"""Activity files: read, and priced in every way on a few chips."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from energy_runs import run

from fuzz.files import Files
from fuzz.target import Target, may_refuse
from stas_neuro.activity import read_activity, write_activity
from stas_neuro.energy import GATINGS, SCHEDULES, compare, compare_schedules, estimate, load_profile
from stas_neuro.report import estimate_report

PROFILES = ("loihi2-gated-whatif", "loihi1", "gpu")


def make_seeds() -> Sequence[Files]:
    both = run()
    records = [both, run(halting=False), both + both.restrict(np.zeros(3, np.int64))]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "activity.json"
        seeds = []
        for record in records:
            write_activity(record, path)
            seeds.append({"activity.json": path.read_bytes()})
    return seeds


def read(inputs: Path, output: Path) -> None:
    activity = read_activity(inputs / "activity.json")
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
        compare(activity, {"itself": activity, "other": run(halting=False)}, profiles)
    with may_refuse():
        compare_schedules({"it": activity}, profiles)
    write_activity(activity, output / "again.json")


TARGET = Target("activity", make_seeds, read)
