"""Images in .npz files: loaded, fitted to a model as training does, and preprocessed for a network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.ir_random import Recipe, build

from fuzz.files import Files
from fuzz.target import Target, may_refuse
from stas_neuro.api import preprocess
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.models.config import preset
from stas_neuro.passes import Quantise
from stas_neuro.training.train import fit_config

STILL = build(Recipe(norm=False, channels=1, height=4, width=4))
EVENTS = build(Recipe(norm=False, channels=2, height=4, width=4, events=True, stem="sps", time_steps=2))
GRAPHS = [STILL, EVENTS, Quantise()(STILL)]


def npz(compressed: bool, **arrays: Any) -> Files:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return {"data.npz": stream.getvalue()}


def make_seeds() -> Sequence[Files]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 4, 4), np.uint8)
    labels = np.array([0, 2, 1])
    return [
        npz(False, images=pixels, labels=labels),
        npz(True, images=pixels, labels=labels.astype(np.uint8), classes=["shoe", "hat", "ät"]),
        npz(False, images=rng.uniform(size=(3, 1, 4, 4)), labels=labels),
        npz(True, images=rng.integers(0, 3, (3, 2, 2, 4, 4)).astype(np.float32), labels=labels),
        npz(False, images=np.asfortranarray(pixels[:, None]), classes=np.arange(3), notes=["mine"]),
    ]


def use(data: LabelledImages) -> None:
    """Do with images what training and running begin with."""
    config = preset("tiny").replace(time_steps=2)
    with may_refuse():
        fit_config(config, data)
    for graph in GRAPHS:
        with may_refuse():
            preprocess(graph, data)


def read(inputs: Path, output: Path) -> None:
    use(load_data(str(inputs / "data.npz"), "train"))


TARGET = Target("data_npz", make_seeds, read)
