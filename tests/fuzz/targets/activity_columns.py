"""Activity files in columns: read, and priced."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.energy_runs import run

from fuzz.files import Files
from fuzz.networks import activities
from fuzz.target import Target, may_refuse
from fuzz.targets.activity import known
from stas_neuro.activity import KINDS, Whole, write_activity
from stas_neuro.cli.runs import read_run
from stas_neuro.energy import estimate


def make_seeds() -> Sequence[Files]:
    small = run()
    whole = Whole(
        images=9,
        counts={kind: 9 * small.sums(kind) for kind in KINDS},
        numbers=np.arange(0, 9, 9 // small.images)[: small.images],
        visits=None if small.visits is None else small.visits.sum(axis=0),
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "activity.parquet"
        seeds: list[Files] = []
        for record in (small, replace(small, whole=whole), *activities()):
            write_activity(record, path)
            seeds.append({"activity.parquet": path.read_bytes()})
    return seeds


def read(inputs: Path, output: Path) -> None:
    activity = read_run(inputs)
    with may_refuse():
        estimate(activity, known("loihi2-gated-whatif"))


TARGET = Target("activity_columns", make_seeds, read)
