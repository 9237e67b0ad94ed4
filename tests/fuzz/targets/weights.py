"""Files of released weights: opened, folded and quantised. A zip file is mutated as its members."""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from support.foreign_models import STYLES, Foreign

from fuzz.files import Files
from fuzz.target import Target, may_refuse
from stas_neuro.compiler import compile
from stas_neuro.importers.weights import open_weights

STYLE = "Spikformer of STEP, CIFAR"
ALONE = ("weights.safetensors", "weights.legacy")


def make_seeds() -> Sequence[Files]:
    state = dict(Foreign(STYLES[STYLE], dim=8, depth=1, hidden=8).state_dict())
    wrapped = {
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "state_dict_ema": state,
        "args": argparse.Namespace(num_heads=2, lr=0.1),
    }
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(wrapped, zipped)
    torch.save(wrapped, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(zipped) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return [members, {ALONE[0]: save(state)}, {ALONE[1]: legacy.getvalue()}]


def read(inputs: Path, output: Path) -> None:
    (path,) = [inputs / name for name in ALONE if (inputs / name).exists()] or [output / "w.pth"]
    if path.parent == output:
        output.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for member in sorted(inputs.rglob("*")):
                if member.is_file():
                    archive.write(member, f"archive/{member.relative_to(inputs)}")
    weights = open_weights(path, arch="spikformer", heads=2, time_steps=2, image_size=4)
    with may_refuse():
        compile(weights, bits=8)


TARGET = Target("weights", make_seeds, read)
