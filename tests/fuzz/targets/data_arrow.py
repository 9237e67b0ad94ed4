"""Data sets of Hugging Face's library datasets, as it saves them to disk."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from fuzz.files import Files
from fuzz.target import Target
from fuzz.targets.data_npz import use
from stas_neuro.data import load_data


def saved(columns: dict[str, Any], features: dict[str, Any]) -> Files:
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {
        "state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
        "dataset_info.json": json.dumps({"features": features}).encode(),
        "data.arrow": sink.getvalue().to_pybytes(),
    }


def make_seeds() -> Sequence[Files]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    encoded = []
    for image in pixels:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        encoded.append({"bytes": stream.getvalue(), "path": "a.png"})
    label = {"_type": "ClassLabel", "names": ["a", "b", "c"]}
    return [
        saved({"image": encoded, "label": [0, 2, 1]}, {"image": {"_type": "Image"}, "label": label}),
        saved({"x": pixels.tolist(), "y": ["b", "a", "b"]}, {}),
    ]


def read(inputs: Path, output: Path) -> None:
    use(load_data(str(inputs), "train"))


TARGET = Target("data_arrow", make_seeds, read)
