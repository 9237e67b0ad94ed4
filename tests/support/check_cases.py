"""Networks and chips between which a check must find something: each kind of finding with its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from stas_neuro.checker import Finding, Verdict, check
from stas_neuro.chips import Profile, load_profile
from stas_neuro.ir import (
    LIF,
    Conv2d,
    Edge,
    Graph,
    Input,
    Linear,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Stage,
    Tokens,
)
from stas_neuro.passes import Quantise
from support.cli_support import CONFIG
from support.ir_random import Recipe, build
from support.random_models import random_model

SMALL = Recipe(norm=False, fire=">", time_steps=2, blocks=1, width=4)


def folded(tensors: dict[str, float] | None = None, **changes: Any) -> Graph:
    """A small folded graph; `tensors` fills some of its own with a number."""
    graph = build(replace(SMALL, **changes))
    changed = {name: np.full_like(graph.tensors[name], value) for name, value in (tensors or {}).items()}
    return replace(graph, tensors=dict(graph.tensors) | changed)


def spiky(tensor: str) -> Graph:
    """A graph in one of whose tensors one weight in a row is a thousand times the others."""
    graph = folded({tensor: 1e-3})
    values = graph.tensors[tensor].copy()
    values[:, 0] = 1.0
    return replace(graph, tensors=dict(graph.tensors) | {tensor: values})


def quantised(exponents: Any = "layer", bits: int = 8, **changes: Any) -> Graph:
    return Quantise(bits=bits, exponents=exponents)(folded(**changes))


def rounded() -> Graph:
    """A graph with so many tokens that their mean rounds."""
    many = {"halting": "off", "head": "mean", "membrane": True, "pool": False, "height": 24, "width": 24}
    return Quantise(state_bits=20)(folded(**many))


def chip(name: str = "loihi2", **limits: float) -> Profile:
    """A chip of the catalogue with other limits."""
    profile = load_profile(name)
    changed = {
        key: replace(profile.limits[key], value=value, low=value, high=value) for key, value in limits.items()
    }
    return replace(profile, limits=dict(profile.limits) | changed)


def able(name: str, value: str) -> Profile:
    profile = load_profile("loihi2")
    changed = {name: replace(profile.capabilities[name], value=value)}
    return replace(profile, capabilities=dict(profile.capabilities) | changed)


def of_one(network: Any, profile: Profile | str = "loihi2", bits: int | None = None) -> Verdict:
    (verdict,) = check(network, [profile], bits=bits).verdicts
    return verdict


def found(verdict: Verdict, resource: str) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.resource == resource]


def with_lif(graph: Graph, name: str, **changes: Any) -> Graph:
    nodes = tuple(replace(node, **changes) if node.name == name else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def foreign_model() -> Any:
    model = random_model(CONFIG, 0)
    model.blocks[0].fc1 = nn.Sequential(nn.Identity(), nn.Dropout())
    return model


def wide() -> Graph:
    """One neuron that looks at a whole image of 64 channels of 50 x 50 pixels."""
    stem: dict[str, Any] = {"phase": Phase.ONCE, "scope": "stem"}
    head: dict[str, Any] = {"phase": Phase.END, "scope": "head"}
    nodes = (
        Input(name="image", **stem, shape=(64, 50, 50)),
        Conv2d(
            name="conv", **stem, in_channels=64, out_channels=1, kernel=50, stride=1, padding=0, bias=True
        ),
        LIF(name="lif", **stem, threshold=1.0, fire=">"),
        Tokens(name="tokens", **stem),
        Linear(name="fc", phase=Phase.STEP, scope="block0", in_features=1, out_features=1, bias=True),
        LIF(name="fc_lif", phase=Phase.STEP, scope="block0", threshold=1.0, fire=">"),
        Readout(name="readout", **head, mode="mean-field", blocks=1),
        Linear(name="head", **head, in_features=1, out_features=2, bias=True),
        Output(name="out", **head),
    )
    chain = [(node.name, node.OUTPUTS[0] if node.OUTPUTS else "") for node in nodes]
    edges = tuple(
        Edge(source, port, node.name, node.input_ports[0])
        for (source, port), node in zip(chain, nodes[1:], strict=False)
    )
    tensors = {
        f"{node.name}/{param}": np.full(shape, 0.5)
        for node in nodes
        for param, shape in node.params(2).items()
    }
    return Graph(
        stage=Stage.FOLDED,
        time_steps=2,
        nodes=nodes,
        edges=edges,
        tensors=tensors,
        classes=("a", "b"),
        preprocessing=Preprocessing((0.0,) * 64, (1.0,) * 64),
    )


@dataclass(frozen=True)
class Case:
    """What to check, and the layer, severity and part of the remedy that one finding must have."""

    verdict: Callable[[], Verdict]
    layer: str
    severity: str
    remedy: str
    used: int | str | None = None
    limit: int | str | None = None


CASES: dict[str, list[Case]] = {
    "operation": [
        Case(lambda: of_one(foreign_model()), "blocks.0.fc1.1", "error", "replace it"),
    ],
    "integers": [
        Case(lambda: of_one(folded({"blocks.0.q/bias": 1e9})), "blocks.0.q", "error", "lower its biases"),
        Case(lambda: of_one(folded({"blocks.0.q/weight": 1e9})), "blocks.0.q", "error", "lower its weights"),
        Case(lambda: of_one(folded(), chip(state_bits=16)), "stem.conv0", "error", "fewer inputs"),
    ],
    "spike products": [
        Case(lambda: of_one(quantised(), "loihi1"), "blocks.0.attn", "error", "another chip"),
        Case(lambda: of_one(quantised(sdsa=True), "loihi1"), "blocks.0.columns", "error", "another chip"),
        Case(lambda: of_one(quantised(sdsa=True)), "blocks.0.select", "warning", "program"),
        Case(lambda: of_one(quantised(qk=True), "loihi1"), "blocks.0.head_gate", "error", "another chip"),
        Case(lambda: of_one(quantised(iand=True), "loihi1"), "blocks.0.add0", "error", "another chip"),
    ],
    "soft reset": [
        Case(lambda: of_one(quantised(reset="subtract"), "loihi1"), "stem.lif0", "error", "another chip"),
        Case(lambda: of_one(quantised(reset="subtract")), "stem.lif0", "warning", "program"),
    ],
    "neuron programs": [
        Case(lambda: of_one(quantised(), "loihi1"), "score0", "error", "--accumulate off"),
        Case(lambda: of_one(quantised(stem="sum"), "loihi1"), "stem.integrate", "error", "another chip"),
        Case(lambda: of_one(quantised()), "readout", "warning", "write the program"),
        Case(lambda: of_one(rounded(), "loihi1"), "neck.mean", "error", "another chip"),
    ],
    "graded spikes": [
        Case(lambda: of_one(quantised(), "loihi1"), "stem.conv0", "error", "--input-encoding bias", 255, 1),
        Case(lambda: of_one(quantised(), "loihi1"), "blocks.0.q", "error", "another chip", 2, 1),
        Case(lambda: of_one(quantised(membrane=True), "loihi1"), "blocks.0.add0", "error", "another chip"),
        Case(lambda: of_one(rounded(), "loihi1"), "neck.mean", "error", "another chip"),
        Case(
            lambda: of_one(quantised(), chip(graded_spike_bits=4)), "stem.conv0", "error", "chip", 255, 15
        ),
    ],
    "processor": [
        Case(
            lambda: of_one(quantised(halting="rectangular")), "readout", "warning", "does not divide", 4 * 6
        ),
        Case(
            lambda: of_one(quantised(readout="rate"), able("processor", "no")), "readout", "error", "divide"
        ),
        Case(
            lambda: of_one(Quantise(encoding="bias")(folded())),
            "stem.conv0",
            "warning",
            "--input-encoding graded",
            3 * 4 * 4 * 2 * 9,
        ),
    ],
    "synaptic memory": [
        # 2 channels of 3 x 3 weights of 8 bits, and an exponent of 4 bits that three features share
        Case(
            lambda: of_one(quantised(), chip(synaptic_memory_per_core=16 / 1024)),
            "stem.lif0", "error", "fewer weight bits", 19, 16,
        ),
        Case(lambda: of_one(wide()), "lif", "error", "fewer inputs", 160_001, 128 * 1024),
    ],
    "input axons": [
        Case(lambda: of_one(wide(), "loihi1"), "lif", "error", "fewer inputs", 160_000, 4096),
        Case(
            lambda: of_one(quantised(), chip("loihi1", input_axons_per_core=20)),
            "stem.lif1", "error", "fewer inputs", 3 * 9, 20,
        ),
    ],
    "output axons": [
        Case(
            lambda: of_one(quantised(), chip("loihi1", output_axons_per_core=1)),
            "halt0", "error", "fewer groups", None, 1,
        ),
    ],
    "neurons": [Case(lambda: of_one(quantised()), "", "info", "", None, 120 * 8192)],
    "cores": [
        Case(lambda: of_one(quantised()), "", "info", "", 4, 120),
        Case(
            lambda: of_one(quantised(), chip(cores_per_chip=1, neurons_per_core=100)),
            "", "warning", "chips", None, 1,
        ),
    ],
    "fan-in": [Case(lambda: of_one(wide(), "loihi1"), "lif", "error", "fewer inputs", 160_000, 4096)],
    "chips": [
        Case(
            lambda: of_one(quantised(), chip(cores_per_chip=1, neurons_per_core=100, chips=1)),
            "", "error", "smaller network", 6, 1,
        ),
    ],
    "weight bits": [
        Case(lambda: of_one(quantised(), chip(weight_bits=4)), "blocks.0.q", "error", "--bits", 8, 4),
        Case(lambda: of_one(folded({"blocks.0.q/bias": 1e9}), chip(weight_bits=4)), "", "error", "--bits"),
    ],
    "weight exponents": [
        Case(
            lambda: of_one(quantised("channel"), "loihi1"),
            "blocks.0.fc1", "error", "compile --profile loihi1", None, 1,
        ),
    ],
    "state bits": [
        Case(lambda: of_one(quantised(), "loihi1"), "blocks.0.proj_lif", "error", "--profile loihi1", 24, 23),
        Case(lambda: of_one(folded(), "loihi1"), "blocks.0.proj_lif", "info", "", 23, 23),
    ],
    "threshold bits": [
        Case(lambda: of_one(quantised(), chip(threshold_bits=8)), "blocks.0.q_lif", "error", "vth", None, 8),
    ],
    "decay bits": [
        Case(lambda: of_one(quantised(tau=2.0), chip(decay_bits=11)), "stem.lif0", "error", "tim", 12, 11),
    ],
    "bias bits": [
        Case(lambda: of_one(quantised(), chip(bias_bits=6)), "blocks.0.q", "error", "bias_exp", None, 6),
    ],
    "bias exponent": [
        Case(lambda: of_one(quantised(), chip(bias_exponent=0)), "blocks.0.q", "error", "bias_exp", None, 0),
    ],
    "message bits": [
        Case(lambda: of_one(quantised()), "stem.conv0", "warning", "num_message_bits", 8, 0),
        Case(lambda: of_one(quantised()), "blocks.0.q", "warning", "num_message_bits", 2, 0),
    ],
    "stock convolution": [
        Case(lambda: of_one(quantised()), "stem.conv0", "warning", "own processes"),
    ],
    "stock exponents": [
        Case(lambda: of_one(quantised("channel")), "blocks.0.fc1", "warning", "one stock process", None, 1),
    ],
    "odd mantissas": [Case(lambda: of_one(quantised(bits=9)), "blocks.0.q", "warning", "8 weight bits")],
    "bias of halted tokens": [
        Case(lambda: of_one(quantised()), "blocks.0.q", "warning", "live tokens", 6, 0),
    ],
    "silent neurons": [
        Case(
            lambda: of_one(with_lif(quantised(), "blocks.0.q_lif", vth=2**17 - 1)),
            "blocks.0.q_lif", "warning", "do nothing", 6, 6,
        ),
    ],
    "constant neurons": [
        Case(
            lambda: of_one(folded({"blocks.0.q/bias": 60.0})),
            "blocks.0.q_lif", "warning", "tell nothing", 6, 6,
        ),
    ],
    "zero weights": [
        Case(
            lambda: of_one(folded({"blocks.0.q/weight": 0})),
            "blocks.0.q", "warning", "0 in the float network too", 6, 6,
        ),
        Case(
            lambda: of_one(folded({"blocks.0.q/weight": 1e-9})),
            "blocks.0.q", "warning", "raise the scale of its normalisation", 6, 6,
        ),
        Case(
            lambda: of_one(Quantise()(folded({"blocks.0.q/weight": 1e-9}))),
            "blocks.0.q", "warning", "use more weight bits", 6, 6,
        ),
    ],
    "lost weights": [
        Case(
            lambda: of_one(folded({"blocks.0.q/weight": 1e-9})),
            "blocks.0.q", "warning", "raise the scale of its normalisation", 36, 36,
        ),
        Case(
            lambda: of_one(folded({"stem.integrate/weights": 1e-9}, stem="learned")),
            "stem.integrate", "warning", "raise", 2, 2,
        ),
        # One weight of each channel, and of the network, is much larger than the others.
        Case(lambda: of_one(spiky("blocks.0.q/weight")), "blocks.0.q", "warning", "more weight", 30, 36),
    ],
    "readout clip": [
        Case(
            lambda: of_one(Quantise(largest_output=1.0)(folded(membrane=True))),
            "readout", "warning", "--calibrate",
        ),
    ],
    "threshold": [Case(lambda: of_one(quantised(fire=">=")), "stem.lif0", "warning", "fire", ">=", ">")],
}  # fmt: skip
