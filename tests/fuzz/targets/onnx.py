"""ONNX files of stas-neuro, of floats and of integers; their metadata also apart, to be changed as JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from support.ir_random import build

from fuzz.files import Files
from fuzz.networks import RECIPES
from fuzz.target import Target
from stas_neuro.exporters.onnx.origin import KEY
from stas_neuro.exporters.onnx.write import write_onnx
from stas_neuro.files import read_bytes
from stas_neuro.importers.onnx_importer import read_onnx
from stas_neuro.passes import Quantise

NAME, METADATA = "network.onnx", "metadata.json"


def make_seeds() -> Sequence[Files]:
    floats = build(replace(RECIPES[0], blocks=1))
    seeds: list[Files] = []
    with tempfile.TemporaryDirectory() as scratch:
        for index, graph in enumerate((floats, Quantise()(floats))):
            path = Path(scratch) / f"{index}.onnx"
            write_onnx(graph, path)
            model = onnx.load(path)
            (text,) = [entry.value.encode() for entry in model.metadata_props]
            del model.metadata_props[:]
            seeds += [{NAME: path.read_bytes()}, {NAME: model.SerializeToString(), METADATA: text}]
    return seeds


def read(inputs: Path, output: Path) -> None:
    path = inputs / NAME
    if (inputs / METADATA).exists():
        text = read_bytes(inputs / METADATA)
        metadata = onnx.ModelProto(
            metadata_props=[onnx.StringStringEntryProto(key=KEY, value=text.decode("utf-8", "replace"))]
        )
        path = output / NAME
        path.write_bytes(read_bytes(inputs / NAME) + metadata.SerializeToString())  # messages add up
    read_onnx(path)


TARGET = Target("onnx", make_seeds, read)
