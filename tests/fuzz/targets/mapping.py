"""mapping.json: read in a bundle that is valid otherwise, and run and priced on these cores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from fuzz.files import Files, write_files
from fuzz.networks import pixels
from fuzz.target import Target, may_refuse, pick
from fuzz.targets import bundle
from stas_neuro import api
from stas_neuro.bundle import MAPPING, load_bundle
from stas_neuro.energy import GATINGS, estimate
from stas_neuro.files import read_bytes
from stas_neuro.mapping import parse_mapping
from stas_neuro.placement import utilisation


def make_seeds() -> Sequence[Files]:
    return [{MAPPING: _bundle()[MAPPING]}]


def _bundle() -> Files:
    return next(seed for seed in bundle.TARGET.seeds if MAPPING in seed)


def read(inputs: Path, output: Path) -> None:
    content = read_bytes(inputs / MAPPING)
    with may_refuse():
        parse_mapping(content, MAPPING)
    whole = bundle.rehash({**_bundle(), MAPPING: content}, Random(0))
    write_files(whole, output / "net")
    loaded = load_bundle(output / "net")
    assert loaded.mapping is not None and loaded.quantised is not None
    with may_refuse():
        utilisation(loaded.quantised, loaded.mapping, bundle.known("loihi1"))
    gated = bundle.known("loihi2-gated-whatif")
    for gating in pick(("silent", "core"), content):
        with may_refuse():
            trace = api.run(loaded, pixels(loaded.quantised, 1), arithmetic="fixed", gating=gating)
            for priced in pick(list(GATINGS), content, 2):
                with may_refuse():
                    json.dumps(estimate(trace.activity, gated, priced).to_json(), allow_nan=False)


TARGET = Target("mapping", make_seeds, read)
