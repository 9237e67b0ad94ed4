"""The form of every operation in ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.exporters.onnx import forms_halting, forms_layers, forms_tokens
from stas_neuro.exporters.onnx.body import Body
from stas_neuro.exporters.onnx.forms_base import Form
from stas_neuro.exporters.onnx.function import Value
from stas_neuro.ir import FLOAT_OF, QUANTISED, Node, Stage, op_of, per_op

FORMS: Mapping[type[Node], Form] = per_op(
    "forms in ONNX", {**forms_halting.FORMS, **forms_layers.FORMS, **forms_tokens.FORMS}
)
for _cls in QUANTISED:
    if FORMS[FLOAT_OF.get(_cls, _cls)].integers is None:
        raise TypeError(f"forms in ONNX: {_cls.__name__} has no integers")


def write_body(body: Body, *, answer: bool = False) -> dict[str, Value]:
    """Write the body of a node's function; gives its values at output ports.

    `answer`: after the last step, of a node that gathers in every step.
    """
    form = (forms_halting.ANSWERS if answer else FORMS)[op_of(body.node)]
    make = form.integers if body.graph.stage == Stage.QUANTISED else form.floats
    assert make is not None  # it has been looked up above
    return make(body)
