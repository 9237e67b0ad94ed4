"""mapping.json: read, and an integer program run and priced on its cores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fuzz.files import Files
from fuzz.networks import bundles, pixels
from fuzz.target import Target, may_refuse, pick
from fuzz.targets.bundle import known
from stas_neuro import api
from stas_neuro.bundle import MAPPING
from stas_neuro.energy import GATINGS, Deployment, estimate
from stas_neuro.files import read_bytes
from stas_neuro.mapping import parse_mapping
from stas_neuro.mapping.check import check_mapping
from stas_neuro.placement import utilisation


def make_seeds() -> Sequence[Files]:
    return [{MAPPING: bundle.mapping.to_json().encode()} for bundle in bundles()[1:2] if bundle.mapping]


def read(inputs: Path, output: Path) -> None:
    graph = bundles()[1].quantised
    assert graph is not None
    content = read_bytes(inputs / MAPPING)
    mapping = parse_mapping(content, MAPPING)
    check_mapping(graph, mapping)
    with may_refuse():
        utilisation(graph, mapping, known("loihi1"))
    placed = replace(bundles()[1], mapping=mapping)
    gated = known("loihi2-gated-whatif")
    for gating in pick(("silent", "core"), content):
        trace = api.run(placed, pixels(graph, 1), arithmetic="fixed", gating=gating)
        for priced in pick(list(GATINGS), content, 2):
            with may_refuse():
                json.dumps(
                    estimate(trace.activity, gated, Deployment(gating=priced)).to_json(), allow_nan=False
                )


TARGET = Target("mapping", make_seeds, read)
