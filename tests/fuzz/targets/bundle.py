"""Bundles as directories: read with all bounds, inspected, placed, run and written again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from fuzz.files import Files, read_files
from fuzz.networks import SOURCE, bundles, pixels
from fuzz.target import Target, may_refuse, pick
from stas_neuro import api
from stas_neuro.bundle import Bundle, load_bundle, save_bundle
from stas_neuro.checker import check
from stas_neuro.chips import load_profile
from stas_neuro.cli import main
from stas_neuro.energy import estimate
from stas_neuro.placement import place

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
    """Do with a bundle what commands do, some of it."""
    bundle = load_bundle(path)
    content = repr(bundle.sha256)
    shown = (
        ("inspect", path),
        ("inspect", path, "--json", "--text"),
        ("inspect", path, "--portability"),
        ("inspect", path, "--cores"),
        ("convert", path, "--to", "lava", "-o", output / "lava"),
        ("convert", path, "--to", "sanafe", "-o", output / "sanafe"),
    )
    kinds = ("float", "fixed") if bundle.quantised is not None else ("float",)
    for do in pick((show_it, place_it, check_it, run_it, save_it), content, 2):
        with may_refuse():
            do(bundle, pick(kinds, content)[0], pick(shown, content)[0], output)


def show_it(bundle: Bundle, arithmetic: str, arguments: Sequence[str | Path], output: Path) -> None:
    command(*arguments)


def place_it(bundle: Bundle, arithmetic: str, arguments: Sequence[str | Path], output: Path) -> None:
    strategy = pick(("token-major", "channel-major"), arithmetic)[0]
    place(bundle.of(arithmetic), known("loihi1"), strategy=strategy)


def check_it(bundle: Bundle, arithmetic: str, arguments: Sequence[str | Path], output: Path) -> None:
    json.dumps(check(bundle, [known("loihi1"), known("loihi2")]).to_json(), allow_nan=False)


def run_it(bundle: Bundle, arithmetic: str, arguments: Sequence[str | Path], output: Path) -> None:
    dtype = pick(api.DTYPES, repr(bundle.sha256))[0]
    trace = api.run(bundle, pixels(bundle.graph, 1), arithmetic=arithmetic, dtype=dtype)
    estimate(trace.activity, known("loihi2"))


def save_it(bundle: Bundle, arithmetic: str, arguments: Sequence[str | Path], output: Path) -> None:
    kept = {"quantised": bundle.quantised, "mapping": bundle.mapping}
    save_bundle(bundle.graph, output / "again", bundle.provenance, **kept)
    assert load_bundle(output / "again").graph == bundle.graph


known = cache(load_profile)


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
