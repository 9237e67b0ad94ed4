"""Fingerprints of what the compiler, the backends and the prices give, to compare two versions of the code.

    python tests/bits.py write before.json     # in the one version
    python tests/bits.py compare before.json   # in the other: prints what differs, exit 1 if anything does

Covers the shipped models and 100 random small networks: graphs of every stage, activity records of the
reference (unplaced, and on random cores), and prices on every chip. Floats are compared to the last bit, on
one machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from support.fixed_random import pixels_for
from support.ir_random import HALTING, READOUTS, STEMS, Recipe, build, images_for

from stas_neuro import api, compiler
from stas_neuro.activity import Activity
from stas_neuro.analysis import neuron_layers
from stas_neuro.chips import list_profiles, load_profile
from stas_neuro.data import load_data
from stas_neuro.energy import estimate
from stas_neuro.errors import StasError
from stas_neuro.ir import Graph
from stas_neuro.ir.text import print_graph
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.passes import FoldBatchNorm
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = ("fashion-spikformer", "fashion-spikformer/stage1", "fashion-spikingformer", "fashion-t1")
RANDOM_NETWORKS = 100
CHOICES: dict[str, tuple[Any, ...]] = {
    # Drawn by number: a policy that is added would change the networks of all others.
    "halting": tuple(name for name in HALTING if name != "image"),
    "readout": READOUTS, "stem": STEMS, "form": ("Q(K^TV)", "(QK^T)V"),
    "fire": (">", ">="), "time_steps": (1, 2, 3), "blocks": (1, 2, 3), "channels": (1, 2),
    "height": (3, 4, 6), "width": (3, 5), "kernel": (1, 2, 3), "stride": (1, 2), "heads": (1, 2),
    "head_dim": (1, 2, 3),
    "epsilon": (0.0, 0.01, 0.3), "beta": (-3.0, -1.0, 0.5), "tau": (1.0, 2.0), "events": (False, True),
    "membrane": (False, True), "sdsa": (False, True), "norm": (False, True), "bias": (False, True),
    "pool": (False, True),
}  # fmt: skip


def fingerprint(*parts: bytes | str) -> str:
    return hashlib.sha256(
        b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    ).hexdigest()[:16]


def of_graph(graph: Graph) -> str:
    tensors = [tensor.tobytes() for _, tensor in sorted(graph.tensors.items())]
    return fingerprint(print_graph(graph), *tensors)


def of_activity(activity: Activity) -> str:
    rows = json.dumps([[str(getattr(row, f.name)) for f in fields(row)] for row in activity.layers])
    counts = [kind.encode() + counted.tobytes() for kind, counted in sorted(activity.counts.items())]
    visits = b"" if activity.visits is None else activity.visits.tobytes()
    return fingerprint(rows, str(activity.steps), *counts, visits)


def of_prices(activity: Activity) -> str:
    """Fingerprint all figures of all chips; sentences may be reworded."""
    found = []
    for name in list_profiles():
        try:
            cost = estimate(activity, load_profile(name)).to_json()
            del cost["assumptions"]
            cost["unavailable"] = sorted(cost["unavailable"])  # names without reasons
            for finding in cost["what_if"] or ():
                del finding["remedy"]
                if not isinstance(finding["limit"], int):  # in words
                    del finding["limit"]
            found.append(json.dumps(cost, sort_keys=True))
        except StasError as error:
            found.append(type(error).__name__)
    return fingerprint(*found)


def runs(label: str, graph: Graph, images: Any, draw: random.Random) -> Iterator[tuple[str, str]]:
    yield f"{label} graph", of_graph(graph)
    for where, mapping in (("", None), (" on cores", scattered(graph, draw))):
        trace = run_reference(graph, images, mapping=mapping)
        yield f"{label} logits{where}", fingerprint(trace.logits.tobytes())
        yield f"{label} activity{where}", of_activity(trace.activity)
        yield f"{label} prices{where}", of_prices(trace.activity)


def scattered(graph: Graph, draw: random.Random) -> Mapping:
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        cores = [draw.randrange(4) for _ in range(positions)]
        for core in sorted(set(cores)):
            held = tuple(position for position in range(positions) if cores[position] == core)
            pieces.append(Piece(layer=layer, core=core, positions=held, features=(0, features)))
    sites = tuple(CoreLocation(chip=0, x=core % 2, y=core // 2) for core in range(4))
    return Mapping(profile="loihi2", strategy="token-major", cores=sites, pieces=tuple(pieces))


def shipped() -> Iterator[tuple[str, str]]:
    data = load_data(str(EXAMPLES / "data" / "fashion-mnist-512.npz")).select(slice(0, 4))
    for model in MODELS:
        graph = compiler.fold(EXAMPLES / "models" / model)
        quantised = Quantise()(graph)
        yield from runs(f"{model} float", graph, api.preprocess(graph, data), random.Random(0))
        yield from runs(f"{model} 8 bits", quantised, api.preprocess(quantised, data), random.Random(0))


def drawn() -> Iterator[tuple[str, str]]:
    for seed in range(RANDOM_NETWORKS):
        draw = random.Random(seed)
        recipe = Recipe(seed=seed, **{name: draw.choice(values) for name, values in CHOICES.items()})
        traced = build(recipe)
        yield f"random {seed} traced", of_graph(traced)
        try:
            folded = FoldBatchNorm()(traced)
            quantised = Quantise(encoding=draw.choice(("graded", "bias")))(folded)
        except StasError as error:
            yield f"random {seed} refused", str(error)
            continue
        yield from runs(f"random {seed} folded", folded, images_for(folded, 2, seed), draw)
        yield from runs(f"random {seed} quantised", quantised, pixels_for(quantised, 2), draw)


def main() -> int:
    """Write fingerprints, or compare with those of a file."""
    command, path = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    found = {**dict(drawn()), **dict(shipped())}
    if command == "write":
        path.write_text(json.dumps(found, indent=0))
        print(f"{len(found)} fingerprints in {path}")
        return 0
    before = json.loads(path.read_text())
    differing = sorted(key for key in before.keys() | found.keys() if before.get(key) != found.get(key))
    for key in differing:
        print(f"{key}: {before.get(key)} before, {found.get(key)} now")
    print(f"{len(before) - len(differing)} of {len(before)} fingerprints are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
