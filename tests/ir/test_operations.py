"""An operation that a table forgets is found when the table is imported, and says where."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
from sanafe_oracle.support import _CANNOT
from support.ir_random import Recipe, build
from support.paths import ROOT

from stas_neuro.ir import (
    OPERATIONS,
    QUANTISED,
    Conv2d,
    FixedConv2d,
    Gate,
    Node,
    SpikeMatMul,
    Tokens,
    op_of,
    per_op,
)
from stas_neuro.ir.ops import FLOAT_OF, NODE_TYPES
from stas_neuro.ir.ops.base import Traits
from stas_neuro.passes import DelayDecisions


def test_a_table_without_an_operation_names_it() -> None:
    rules = dict.fromkeys(OPERATIONS, 0)
    assert per_op("counts", rules) == rules
    del rules[SpikeMatMul]
    with pytest.raises(TypeError, match="counts: SpikeMatMul needs a rule"):
        per_op("counts", rules)
    assert SpikeMatMul not in per_op("counts", rules, without=[SpikeMatMul])


@pytest.mark.parametrize(
    ("rules", "without"),
    [(dict.fromkeys(OPERATIONS, 0), [Tokens]), ({**dict.fromkeys(OPERATIONS, 0), FixedConv2d: 0}, [])],
    ids=["twice", "foreign"],
)
def test_a_table_says_one_thing_of_each_operation_and_nothing_of_others(
    rules: dict[type[Node], int], without: list[type[Node]]
) -> None:
    with pytest.raises(TypeError, match=r"Tokens|FixedConv2d is no operation here"):
        per_op("counts", rules, without=without)


def test_an_operation_without_traits_or_a_type_rule_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="operation Nothing lacks TRAITS"):

        @dataclass(frozen=True, kw_only=True)
        class Nothing(Node):
            pass

    with pytest.raises(TypeError, match="operation Untyped lacks infer"):

        @dataclass(frozen=True, kw_only=True)
        class Untyped(Node):
            TRAITS: ClassVar[Traits] = Conv2d.TRAITS

    needed = ("TRAITS", "infer", "needs", "memory")
    for rule in needed:
        others = {name: getattr(Conv2d, name) for name in needed if name != rule}
        with pytest.raises(TypeError, match=f"operation Half lacks {rule}"):
            type("Half", (Node,), others)

    with pytest.raises(TypeError, match="needs_program"):
        Traits(**{field.name: False for field in fields(Traits) if field.name != "needs_program"})  # type: ignore[arg-type]


def test_every_operation_is_listed_with_its_integers() -> None:
    assert set(NODE_TYPES.values()) == {*OPERATIONS, *FLOAT_OF}
    assert {op_of_type(cls) for cls in QUANTISED} == {op for op in OPERATIONS if not op.FOLDED_AWAY}
    assert all(issubclass(cls, op_of_type(cls)) for cls in QUANTISED)


def op_of_type(cls: type[Node]) -> type[Node]:
    return op_of(cls.__new__(cls))


FOLDED = {op.__name__ for op in OPERATIONS if not op.FOLDED_AWAY}


def test_random_graphs_have_every_operation() -> None:
    raster = build(Recipe(stem="max"))
    others = (
        build(Recipe(sdsa=True, shrink="pool", outlast=True)),
        build(Recipe(halting="off", head="mean")),
        build(Recipe(qk=True, iand=True)),
        build(Recipe(halting="image")),
    )
    graphs = (raster, *others, DelayDecisions(1)(raster))
    assert {type(node) for graph in graphs for node in graph.nodes} == set(OPERATIONS)


def test_the_documents_name_every_operation() -> None:
    integers = (ROOT / "docs" / "integer.md").read_text()
    rows = " ".join(re.findall(r"^\| ([A-Z][\w, ]+) \|", integers, re.M))
    ends = {"Output"}  # its unit is told in the text
    assert not [name for name in FOLDED - ends if not re.search(rf"\b{name}\b", rows)]
    records = (ROOT / "docs" / "activity.md").read_text()
    counted = {op.record_kind() for op in OPERATIONS if op.TRAITS.counts_events}
    assert not [kind for kind in counted if f"`{kind}`" not in records]


def test_sanafe_is_asked_about_every_operation() -> None:
    # It can express layers, neurons and the order of tokens; what comes after the model steps is not asked.
    expressed = {"Conv2d", "Linear", "LIF", "Map", "Tokens", "Input", "Readout", "Output"}
    assert _CANNOT.keys() | expressed == FOLDED and not _CANNOT.keys() & expressed


def test_a_gate_answers_by_its_axis() -> None:
    where = {"name": "g", "phase": "step", "scope": "block0"}
    token, *by_spikes = (Gate(**where, axis=axis) for axis in ("token", "channel", "head"))  # type: ignore[arg-type]
    assert all(gate.traits.counts_events and gate.traits.multiplies_spikes for gate in by_spikes)
    assert not token.traits.counts_events and not token.traits.multiplies_spikes
