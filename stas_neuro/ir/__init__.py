"""The typed graph every stage shares. It knows no file format, no torch and no Lava."""

from stas_neuro.ir.edges import Edge
from stas_neuro.ir.graph import Graph
from stas_neuro.ir.ops import *  # noqa: F403
from stas_neuro.ir.ops import FLOAT_OF, NODE_TYPES, OPERATIONS, QUANTISED, Node, op_of, per_op
from stas_neuro.ir.policies import POLICIES, HaltMode, Policy, group_numbers, per_policy
from stas_neuro.ir.problems import IRError, Problem, Problems
from stas_neuro.ir.ranges import (
    ALIGN,
    BIAS_LIMIT,
    EXACT_LIMIT,
    PIXEL_LIMIT,
    STATE_LIMIT,
    VTH_LIMIT,
    WORD_LIMIT,
    Range,
)
from stas_neuro.ir.types import (
    EVENTS,
    Array,
    Kind,
    Phase,
    Preprocessing,
    Shape,
    Stage,
    ValueType,
    neutral,
)

# The node types are exported too, as each family of operations lists them.
__all__ = [
    "ALIGN",
    "BIAS_LIMIT",
    "EVENTS",
    "EXACT_LIMIT",
    "FLOAT_OF",
    "NODE_TYPES",
    "OPERATIONS",
    "PIXEL_LIMIT",
    "POLICIES",
    "QUANTISED",
    "STATE_LIMIT",
    "VTH_LIMIT",
    "WORD_LIMIT",
    "Array",
    "Edge",
    "Graph",
    "HaltMode",
    "IRError",
    "Kind",
    "Node",
    "Phase",
    "Policy",
    "Preprocessing",
    "Problem",
    "Problems",
    "Range",
    "Shape",
    "Stage",
    "ValueType",
    "group_numbers",
    "neutral",
    "op_of",
    "per_op",
    "per_policy",
]
