"""A small model, its data and the program, for the tests of commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stas_neuro.cli import main
from stas_neuro.models.checkpoint import save_checkpoint
from stas_neuro.models.config import StasConfig
from support.random_models import random_model

CLASSES = ("nought", "one", "two")
CONFIG = StasConfig(
    dim=16,
    heads=2,
    depth=2,
    time_steps=3,
    mlp_ratio=1.0,
    image_size=8,
    patch_size=2,
    num_classes=len(CLASSES),
    classes=CLASSES,
    beta=-1.0,
    mean=(0.5,),
    std=(0.25,),
)


@dataclass(frozen=True)
class Done:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def stas(*arguments: str | Path) -> Done:
    """Call the program in this interpreter."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())


def fine(*arguments: str | Path) -> Done:
    """Call it where it has to end well."""
    done = stas(*arguments)
    assert done.code == 0, done.err
    return done


def start(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Call it as a program of its own, with one thread."""
    command = [sys.executable, "-W", "error", "-m", "stas_neuro.cli", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    return subprocess.run(command, text=True, check=False, timeout=120, **given | options)


def make_checkpoint(directory: Path, seed: int = 3, **changes: Any) -> Path:
    """Write the checkpoint of a random model that spikes and halts."""
    save_checkpoint(random_model(CONFIG.replace(**changes), seed, torch.float32), directory)
    return directory


def make_data(path: Path, count: int = 6, size: int = 8, labels: bool = True, seed: int = 0) -> Path:
    """Write random images with labels to an npz file."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (count, size, size)).astype(np.uint8),
        "classes": np.array(CLASSES),
    }
    if labels:
        arrays["labels"] = rng.permutation(np.arange(count) % len(CLASSES))
    np.savez(path, **arrays)
    return path


@dataclass(frozen=True)
class Place:
    """A checkpoint, data, its bundle, and runs of it and of the same weights without halting."""

    checkpoint: Path
    data: Path
    bundle: Path
    run: Path
    without: Path


def make_place(home: Path, images: int) -> Place:
    """Make all of them by the commands."""
    place = Place(
        make_checkpoint(home / "checkpoint"),
        make_data(home / "data.npz", images),
        home / "halting.stas",
        home / "halting",
        home / "without",
    )
    fine("compile", place.checkpoint, "-o", place.bundle)
    fine("run", place.bundle, "--data", place.data, "-o", place.run)
    fine("compile", place.checkpoint, "--accumulate", "off", "-o", home / "off.stas")
    fine("run", home / "off.stas", "--data", place.data, "-o", place.without)
    return place
