"""Bundles as zip files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz.files import Files
from fuzz.networks import SOURCE, bundles
from fuzz.target import Target
from fuzz.targets.bundle import use
from stas_neuro.bundle import save_bundle


def make_seeds() -> Sequence[Files]:
    seeds = []
    with tempfile.TemporaryDirectory() as directory:
        for number, bundle in enumerate(bundles()):
            path = Path(directory) / f"{number}.zip"
            save_bundle(bundle.graph, path, SOURCE, quantised=bundle.quantised, mapping=bundle.mapping)
            seeds.append({"net.zip": path.read_bytes()})
    return seeds


def read(inputs: Path, output: Path) -> None:
    use(inputs / "net.zip", output)


TARGET = Target("bundle_zip", make_seeds, read)
