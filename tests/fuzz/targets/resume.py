"""The file that a training is resumed from: read, and the training is ended."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from support.training_runs import CONFIG, OPTIONS, digits

from fuzz.files import Files
from fuzz.mutators import mutate_tree
from fuzz.target import Target
from stas_neuro.models.tensors import open_tensors
from stas_neuro.training.train import LOG, STATE, train

SETTINGS = replace(OPTIONS, stage1_epochs=2, stage2_epochs=1, batch_size=16, holdout=8)
SMALL = CONFIG.replace(depth=1)
DATA = digits(24)


def make_seeds() -> Sequence[Files]:
    """The states that a training of three epochs leaves after each."""
    seeds: list[Files] = []

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            seeds.append({name: (directory / name).read_bytes() for name in (STATE, LOG)})

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        train(SMALL, DATA, SETTINGS, directory, report=note)
    return seeds


def mend(files: Files, rng: Random) -> Files:
    """Half of the time change what a whole state says of its progress, or a number in it."""
    if rng.random() < 0.5:
        return files
    files = dict(rng.choice(TARGET.seeds))
    content = files[STATE]
    assert isinstance(content, bytes)
    size = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    if rng.random() < 0.5:
        progress = json.loads(header["__metadata__"]["progress"])
        key = rng.choice(["stage", "epoch", "log", "held_out", "key"])
        progress[key] = mutate_tree(progress[key], rng)[0]
        header["__metadata__"]["progress"] = json.dumps(progress)
    else:
        name = rng.choice(sorted(header.keys() - {"__metadata__"}))
        begin, end = header[name]["data_offsets"]
        at = begin + 4 * rng.randrange((end - begin) // 4)
        number = rng.choice((0.0, -1.0, 1.0, 7.0, 1e-40, 1e10, 1e29, -1e29, 3e38, float("nan")))
        data = data[:at] + struct.pack("<f", number) + data[at + 4 :]
    text = json.dumps(header).encode()
    return {**files, STATE: struct.pack("<Q", len(text)) + text + data}


def read(inputs: Path, output: Path) -> None:
    for path in inputs.iterdir():
        if not path.is_file():
            with open_tensors(path, "give another"):  # it cannot be copied; this is how it would be opened
                return
        (output / path.name).write_bytes(path.read_bytes())
    train(SMALL, DATA, SETTINGS, output, resume=True)


TARGET = Target("resume", make_seeds, read, mend, quick=30)
