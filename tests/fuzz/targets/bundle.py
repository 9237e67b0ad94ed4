"""Bundles as directories: read with all bounds, inspected, placed, run and written again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

import stas_neuro.cli.convert
import stas_neuro.cli.inspect  # noqa: F401 - nothing may be imported while an input is read
from fuzz.files import Files, read_files
from fuzz.networks import SOURCE, bundles, pixels
from fuzz.target import Target, may_refuse
from stas_neuro import api
from stas_neuro.bundle import load_bundle, save_bundle
from stas_neuro.chips import load_profile
from stas_neuro.cli import main
from stas_neuro.energy import estimate
from stas_neuro.placement import place

T = TypeVar("T")
MANIFEST = "manifest.json"


def make_seeds() -> Sequence[Files]:
    seeds = []
    with tempfile.TemporaryDirectory() as directory:
        for number, bundle in enumerate(bundles()):
            path = Path(directory) / str(number)
            save_bundle(bundle.graph, path, SOURCE, quantised=bundle.quantised, mapping=bundle.mapping)
            seeds.append(read_files(path))
    return seeds


def rehash(files: Files, rng: Random) -> Files:
    """Make the manifest say what the other files are, mostly."""
    try:
        manifest = json.loads(files[MANIFEST])  # type: ignore[arg-type]
        known = dict(manifest["sha256"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return files
    if rng.random() < 0.03:
        return files
    for name, content in files.items():
        if name != MANIFEST and isinstance(content, bytes):
            known[name] = hashlib.sha256(content).hexdigest()
    return {**files, MANIFEST: json.dumps(manifest | {"sha256": known}).encode()}


def use(path: Path, output: Path) -> None:
    """Do with a bundle what commands do; which one shows it depends on the bundle, as they take long."""
    bundle = load_bundle(path)
    shown = (
        ("inspect", path),
        ("inspect", path, "--json", "--text"),
        ("inspect", path, "--portability"),
        ("inspect", path, "--cores"),
        ("convert", path, "--to", "lava", "-o", output / "lava"),
        ("convert", path, "--to", "sanafe", "-o", output / "sanafe"),
    )
    command(*pick(shown, repr(bundle.sha256)))
    networks = [("float", bundle.graph)]
    if bundle.quantised is not None:
        networks.append(("fixed", bundle.quantised))
    for arithmetic, graph in networks:
        for strategy in ("token-major", "channel-major"):
            with may_refuse():
                place(graph, known("loihi1"), strategy=strategy)
        with may_refuse():
            trace = api.run(bundle, pixels(graph, 1), arithmetic=arithmetic)
            with may_refuse():
                estimate(trace.activity, known("loihi2"))
    kept = {"quantised": bundle.quantised, "mapping": bundle.mapping}
    save_bundle(bundle.graph, output / "again", bundle.provenance, **kept)
    assert load_bundle(output / "again").graph == bundle.graph


known = cache(load_profile)


def pick(choices: Sequence[T], text: str) -> T:
    """Choose by a text, always the same."""
    return choices[zlib.crc32(text.encode()) % len(choices)]


def command(*arguments: str | Path) -> None:
    """Call the program where it may refuse; what it prints is dropped."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code in (0, 1, 2), err.getvalue()
    assert err.getvalue().startswith("error: ") == (code != 0), err.getvalue()


def read(inputs: Path, output: Path) -> None:
    use(inputs, output)


TARGET = Target("bundle", make_seeds, read, rehash)
