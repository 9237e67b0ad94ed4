"""Plain ONNX networks as torch modules, against the reference evaluator of onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli_support import stas

import stas_neuro
from stas_neuro.bundle import load_bundle
from stas_neuro.compiler import fold
from stas_neuro.importers.ann import convert
from stas_neuro.importers.errors import CannotImport
from stas_neuro.importers.onnx_networks import module_of

onnx = pytest.importorskip("onnx")


def network(*extra: Any) -> Any:
    """Give a residual network with all operations, and `extra` nodes before the head."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    tensors = {
        "w0": rng.normal(size=(4, 1, 3, 3)), "b0": rng.normal(size=4),
        "gamma": rng.uniform(0.5, 1, 4), "beta": rng.normal(size=4), "mean": rng.normal(size=4),
        "var": rng.uniform(0.5, 1, 4), "w1": rng.normal(size=(4, 2, 1, 1)),
        "w2": rng.normal(size=(4, 6)), "b2": rng.normal(size=6), "w3": rng.normal(size=(3, 6)),
        "b3": rng.normal(size=3),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c0", "gamma", "beta", "mean", "var"], ["n0"], epsilon=1e-4),
        node("Relu", ["n0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"], group=2),
        node("Relu", ["c1"], ["r1"]),
        node("Add", ["r0", "r1"], ["sum"]),
        node("Identity", ["sum"], ["same"]),
        node("GlobalAveragePool", ["same"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        *extra,
        node("MatMul", ["flat", "w2"], ["m"]),
        node("Add", ["b2", "m"], ["h"]),
        node("Gemm", ["h", "w3", "b3"], ["logits"], transB=1),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 6, 6])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(each.astype(np.float32), name) for name, each in tensors.items()],
        )
    )


def test_the_module_computes_what_the_file_says_and_becomes_spikes() -> None:
    from onnx.reference import ReferenceEvaluator

    model = network()
    onnx.checker.check_model(model, full_check=True)
    module = module_of(model)
    images = np.random.default_rng(1).random((5, 1, 6, 6)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(model).run(None, {"images": images})
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(images)).numpy(), wanted, atol=1e-5)
    graph = stas_neuro.open_model(convert(module, torch.from_numpy(images), 4), example=images)
    assert "first" in [node.name for node in graph.nodes]  # type: ignore[union-attr]


def test_all_operations_without_a_module_are_named_at_once() -> None:
    from onnx import helper

    extra = [
        helper.make_node("Gelu", ["flat"], ["g"], name="act"),
        helper.make_node("Softmax", ["g"], ["p"], name="soft"),
    ]
    with pytest.raises(CannotImport) as raised:
        module_of(network(*extra))
    assert [each.where for each in raised.value.problems] == ["act", "soft"]


def test_a_window_with_other_sides_is_refused() -> None:
    model = network()
    model.graph.node[0].attribute[0].ints[:] = [1, 0, 0, 1]
    with pytest.raises(CannotImport, match=r"first: pads \(1, 0, 0, 1\)"):
        module_of(model)


def test_a_file_is_opened_and_compiled(tmp_path: Path) -> None:
    path, images = tmp_path / "net.onnx", np.random.default_rng(1).random((5, 1, 6, 6)).astype(np.float32)
    onnx.save(network(), path)
    np.savez(tmp_path / "images.npz", example=images)
    opened = stas_neuro.open_model(path, example=images, time_steps=4)
    done = stas(
        "compile", path, "--time-steps", "4", "--example", tmp_path / "images.npz", "-o", tmp_path / "b.stas"
    )
    assert done.code == 0, done.err
    assert load_bundle(tmp_path / "b.stas").graph == fold(opened)
    assert "converted to 4 steps" in done.out


def test_a_file_with_other_operations_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(onnx.helper.make_node("Gelu", ["flat"], ["g"], name="act")), path)
    images = np.zeros((2, 1, 6, 6), np.float32)
    with pytest.raises(CannotImport, match="act"):
        stas_neuro.open_model(path, example=images, time_steps=2)
