"""Profiles, with one that they extend: read, shown, and priced, placed and compiled with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from random import Random

from support.energy_runs import run

from fuzz.files import Files
from fuzz.mutators import to_toml, tomllib
from fuzz.networks import activities, bundles
from fuzz.target import Target, may_refuse, pick
from fuzz.targets.bundle import command
from stas_neuro.activity import Activity
from stas_neuro.checker import check
from stas_neuro.chips import load_profile
from stas_neuro.compiler.integers import quantise
from stas_neuro.energy import GATINGS, Deployment, compare, estimate
from stas_neuro.placement import place

OWN, ABOVE = "mine.toml", "above.toml"


def make_seeds() -> Sequence[Files]:
    names = ("loihi1", "loihi2", "loihi2-gated-whatif", "spinnaker1", "truenorth", "cmos45")
    texts = {name: (files("stas_neuro.hw_profiles") / f"{name}.toml").read_bytes() for name in names}
    seeds: list[Files] = [{OWN: text} for text in texts.values()]
    beside = texts["loihi2-gated-whatif"].replace(b'extends = "loihi2"', b'extends = "above.toml"')
    assert beside != texts["loihi2-gated-whatif"]
    return [*seeds, *[{OWN: beside, ABOVE: texts["loihi2"]}] * 3]


def order_ends(files: Files, rng: Random) -> Files:
    """Bring the numbers of an entry into order, mostly: else nothing but their order is tested."""
    mended = dict(files)
    for name, content in files.items():
        try:
            document = tomllib.loads(content.decode())  # type: ignore[union-attr]
        except (ValueError, AttributeError, RecursionError):
            continue
        entries = [entry for part in document.values() if isinstance(part, dict) for entry in part.values()]
        for entry in (entry for entry in entries if isinstance(entry, dict)):
            numbers = [entry.get(key) for key in ("low", "value", "high")]
            if not all(isinstance(number, int | float) for number in numbers) or rng.random() < 0.05:
                continue
            middle = numbers[1] if rng.random() < 0.5 else sorted(numbers)[1]
            ends = {"low": min(middle, *numbers), "value": middle, "high": max(middle, *numbers)}
            entry.update(ends, interval=entry.get("interval") or "mended")
        mended[name] = to_toml(document)
    return mended


@cache
def runs() -> tuple[Activity, ...]:
    return run(), run(halting=False), activities()[1]


def read(inputs: Path, output: Path) -> None:
    path = inputs / OWN
    profile = load_profile(path)
    content = path.read_bytes()
    for activity, gating in pick(list(product(runs(), GATINGS)), content, 3):
        with may_refuse():
            json.dumps(estimate(activity, profile, Deployment(gating=gating)).to_json(), allow_nan=False)
    graph = bundles()[1].graph
    shown = (("show", path), ("show", path, "--json"), ("validate", path))
    uses: tuple[Callable[[], object], ...] = (
        lambda: command("profiles", *pick(shown, content)[0]),
        lambda: compare(run(), {"other": run(halting=False)}, [profile]),
        lambda: place(graph, profile),
        lambda: check(bundles()[1], [profile]).to_json(),
        lambda: quantise(graph, arithmetic=profile.arithmetic),
    )
    with may_refuse():
        pick(uses, content)[0]()


TARGET = Target("profile", make_seeds, read, order_ends)
