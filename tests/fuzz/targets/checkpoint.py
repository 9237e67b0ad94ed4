"""Checkpoint directories: loaded, compiled to a graph, and quantised with the scales that are beside it."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from support.random_models import images_for, random_model

from fuzz.files import Files, read_files
from fuzz.mutators import mutate_tree
from fuzz.target import Target, may_refuse
from stas_neuro.compiler import fold, load_model, provenance
from stas_neuro.compiler.integers import SCALES_FILE, choose_scales, load_scales, save_scales
from stas_neuro.data import LabelledImages
from stas_neuro.models.checkpoint import TrainingRecord, load_training, save_checkpoint
from stas_neuro.models.config import StasConfig
from stas_neuro.passes import run_passes

SMALL = StasConfig(dim=8, heads=2, depth=1, time_steps=2, image_size=4, patch_size=2, num_classes=2)
CONFIGS = (
    SMALL,
    SMALL.replace(
        backbone="spikingformer", stem="learned", accumulate="rectangular", classes=("hat", "shoe")
    ),
    SMALL.replace(attention="sdsa", stem="late-sum", accumulate="time", mean=(0.3,), std=(0.2,), depth=2),
)
RECORD = TrainingRecord(images=20, held_out=2, split="stratified", seed=0, held_out_sha256="0" * 64)


def make_seeds() -> Sequence[Files]:
    seeds = []
    for config in CONFIGS:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            save_checkpoint(random_model(config, 3, torch.float32), directory, RECORD)
            seeds.append(read_files(directory))
            folded = fold(directory)
            images = LabelledImages(images_for(config, 4, 0).clip(0, 1), None)
            save_scales(choose_scales(folded, images, bits=8), directory)
            seeds.append(read_files(directory))
    return seeds


def mend(files: Files, rng: Random) -> Files:
    """Half of the time change whole checkpoints instead: most others are refused early."""
    if rng.random() < 0.5:
        return files
    files = dict(rng.choice(TARGET.seeds))
    name = rng.choice(
        [name for name in ("config.json", "config.json", SCALES_FILE, None) if name in {*files, None}]
    )
    if name is not None:
        document = json.loads(files[name])  # type: ignore[arg-type]
        key = rng.choice(sorted(document))
        document[key] = mutate_tree(document[key], rng)[0]
        return {**files, name: json.dumps(document).encode()}
    content = files["model.safetensors"]
    assert isinstance(content, bytes)
    start = 8 + struct.unpack("<Q", content[:8])[0]
    at = start + 4 * rng.randrange((len(content) - start) // 4)
    number = rng.choice((0.0, -0.0, 1.0, -1.0, 1e-30, 1e-40, 255.0, 1e6, -1e6, 1e12, 1e29, -1e29, 1e31, 3e38))
    return {**files, "model.safetensors": content[:at] + struct.pack("<f", number) + content[at + 4 :]}


def read(inputs: Path, output: Path) -> None:
    model = load_model(inputs)
    provenance(inputs)
    with may_refuse():
        load_training(inputs)
    graph = fold(model)
    chosen = load_scales(inputs)
    if chosen is not None:
        with may_refuse():
            run_passes(graph, [chosen])
    save_checkpoint(model, output)


TARGET = Target("checkpoint", make_seeds, read, mend)
