"""The text form: golden files, round trips, and texts that are refused.

`python tests/ir/test_ir_text.py` writes the golden files anew. The `_invalid` ones are edited by hand, and
list the problems that reading them must find, all of them and in order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from support.ir_random import Recipe, build, graphs

from stas_neuro.ir import Array, Graph, IRError
from stas_neuro.ir.text import digest, parse_graph, print_graph
from stas_neuro.passes import FoldBatchNorm

HERE = Path(__file__).parent / "golden"


def ramped(graph: Graph) -> Graph:
    """Give weights that no random generator and no rounding can change: multiples of 1/16."""

    def ramp(key: str, tensor: Array) -> Array:
        low = 1 if key.endswith(("/var", "/gamma")) else -8
        return ((np.arange(tensor.size) % 17 + low) / 16).reshape(tensor.shape).astype(tensor.dtype)

    return dataclasses.replace(graph, tensors={key: ramp(key, t) for key, t in graph.tensors.items()})


def golden_graphs() -> dict[str, Graph]:
    small = Recipe(blocks=1, height=3, width=3, channels=1, time_steps=2)
    raster = dataclasses.replace(small, dtype="float32")
    rectangular = dataclasses.replace(
        small, blocks=2, halting="rectangular", sdsa=True, norm=False, stem="sps"
    )
    time = dataclasses.replace(
        small,
        blocks=2,
        halting="time",
        readout="rate",
        membrane=True,
        norm=False,
        events=True,
        stem="late-learned",
    )
    return {
        "raster_traced": ramped(build(raster)),
        "raster_folded": FoldBatchNorm()(ramped(build(raster))),
        "rectangular": ramped(build(rectangular)),
        "time_events": ramped(build(time)),
    }


@pytest.fixture(scope="module")
def golden() -> dict[str, Graph]:
    return golden_graphs()


@pytest.mark.parametrize("name", golden_graphs())
def test_golden(name: str, golden: dict[str, Graph]):
    text = (HERE / f"{name}.ir").read_text()
    assert print_graph(golden[name]) == text
    assert parse_graph(text, golden[name].tensors) == golden[name]


@pytest.mark.parametrize("path", sorted(HERE.glob("*_invalid*.ir")), ids=lambda path: path.stem)
def test_golden_invalid(path: Path, golden: dict[str, Graph]):
    text = path.read_text()
    expected = re.findall(r"^; expect (.*)$", text, re.MULTILINE)
    with pytest.raises(IRError) as caught:
        parse_graph(text, golden[path.stem.split("_invalid")[0]].tensors)
    assert expected and [str(problem) for problem in caught.value.problems] == expected


def test_every_golden_file_has_a_test_and_an_invalid_twin():
    stems = {path.stem for path in HERE.glob("*.ir")}
    valid = set(golden_graphs())
    assert {stem for stem in stems if "_invalid" not in stem} == valid
    assert {stem.split("_invalid")[0] for stem in stems if "_invalid" in stem} == valid


@given(graphs())
def test_text_round_trip(graph: Graph):
    text = print_graph(graph)
    again = parse_graph(text, graph.tensors)
    assert again == graph
    assert print_graph(again) == text


def test_what_networks_of_before_do_not_have_is_not_written():
    graph = build(Recipe(kernel=3))
    pool = dataclasses.replace(graph.node("stem.pool"), kernel=(3, 3), stride=(2, 2), padding=(1, 1))  # type: ignore[call-arg]
    assert pool == graph.node("stem.pool")
    assert "%stem.pool = SpikeMaxPool(kernel=3, stride=2, padding=1) x=" in print_graph(graph)
    assert "kernel=3, stride=1, padding=1, bias=True) x=" in print_graph(graph)
    assert "kernel=(3, 5), stride=(2, 1), padding=(1, 2)) x=" in print_graph(build(Recipe(oblong=True)))
    assert "padding=1, bias=True, groups=2) x=" in print_graph(build(Recipe(groups=2)))
    assert "= LIF(tau=2.0, threshold=1.0, fire='>=') x=" in print_graph(graph)
    without_leak = print_graph(build(Recipe(tau=math.inf, decay_input=False)))
    assert "= LIF(tau=None, threshold=1.0, fire='>=', decay_input=False) x=" in without_leak


def test_names_of_classes_may_hold_anything():
    graph = dataclasses.replace(build(Recipe()), classes=('"', "a, b\n[step]", "é;%"))
    assert parse_graph(print_graph(graph), graph.tensors) == graph


def test_numbers_keep_every_bit():
    graph = build(Recipe(epsilon=0.1 + 0.2, alpha=1e-300, beta=-np.pi))
    assert parse_graph(print_graph(graph), graph.tensors).accumulators[0].epsilon == 0.1 + 0.2


def test_a_tensor_that_differs_is_named():
    graph = build(Recipe())
    bias = graph.tensor("head", "bias").copy()
    bias[0] = np.nextafter(bias[0], 9)
    with pytest.raises(IRError, match=r"line \d+: 'bias float64 \(3,\) .*the tensor given is float64 \(3,\)"):
        parse_graph(print_graph(graph), {**graph.tensors, "head/bias": bias})
    with pytest.raises(IRError, match="there is no tensor head/bias"):
        parse_graph(print_graph(graph), {k: v for k, v in graph.tensors.items() if k != "head/bias"})


def test_digest_does_not_hang_on_byte_order():
    tensor = np.arange(6.0).reshape(2, 3)
    assert digest(tensor) == digest(tensor.astype(">f8"))
    assert hashlib.sha256(struct.pack("<6d", *range(6))).hexdigest().startswith(digest(tensor))
    assert digest(tensor) != digest(tensor + 1)


BROKEN = {
    "": "has no stage, time_steps, classes, preprocessing",
    "graph": "a graph begins with 'stas-ir 1'",
    "stas-ir 2": "a graph begins with 'stas-ir 1'",
    "stas-ir 1\nstage traced\nstage traced": "line 3: 'stage traced': is no field",
    "stas-ir 1\nhello": "line 2: 'hello': is no field, section, node or tensor",
    "stas-ir 1\n%a = Add() a=%b:y b=%b:y": "no [phase scope] stands before this node",
    "stas-ir 1\n[now stem]": "the phases are once, stem, step, end",
    "stas-ir 1\n[once stem]\n%a = Sub()": "there is no node type Sub",
    "stas-ir 1\n[once stem]\n%a = Linear(in_features=1)": "attributes of Linear",
    "stas-ir 1\n[once stem]\n%a = Linear(1, 2)": "is no list of name=value",
    "stas-ir 1\n[once stem]\n%a = Add(scale=2)": "unexpected keyword argument 'scale'",
    "stas-ir 1\n[once stem]\n%a = Add(x=open('f'))": "attributes of Add",
    "stas-ir 1\n[once stem]\n%a = Add(x=)": "attributes of Add: ",
    "stas-ir 1\n[once stem]\nweight float64 (1,) 00000000": "no node stands before this tensor",
    "stas-ir 1\nstage x\ntime_steps 1\nclasses \"a\"\npreprocessing mean 0 std 1": "'x' is not a valid Stage",
    "stas-ir 1\nstage folded\ntime_steps 1\nclasses a\npreprocessing mean 0 std 1": "a field of the text",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_broken_texts_are_refused(text: str):
    with pytest.raises(IRError, match=re.escape(BROKEN[text])):
        parse_graph(text, {})


if __name__ == "__main__":
    for name, graph in golden_graphs().items():
        (HERE / f"{name}.ir").write_text(print_graph(graph))
