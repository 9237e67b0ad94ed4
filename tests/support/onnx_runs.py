"""Runs of ONNX models, by onnxruntime or by the evaluator of ONNX itself, after all of ONNX's checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime

from stas_neuro.ir import Array, Graph, Stage


@dataclass(frozen=True)
class Outputs:
    """What a model gives: logits, and spikes by node."""

    logits: Array
    spikes: dict[str, Array]

    @classmethod
    def of(cls, names: list[str], values: list[Any]) -> Outputs:
        given = dict(zip(names, values, strict=True))
        return cls(given.pop("logits"), {name.removesuffix("/spikes"): each for name, each in given.items()})


def check_model(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def run_onnxruntime(model: onnx.ModelProto, images: Array) -> Outputs:
    """Run a model with onnxruntime, on one core."""
    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return Outputs.of(names, session.run(names, {"images": images}))


def run_evaluator(model: onnx.ModelProto, images: Array) -> Outputs:
    """Run a model with the evaluator in plain Python that defines ONNX."""
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return Outputs.of(list(evaluator.output_names), evaluator.run(None, {"images": images}))


def as_taken(graph: Graph, images: Array) -> Array:
    """Convert images to the dtype that the model of a graph takes: bytes, or float64."""
    return images.astype(np.uint8 if graph.stage == Stage.QUANTISED else np.float64)
