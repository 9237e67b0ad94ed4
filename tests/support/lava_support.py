"""Runs one Lava process between feeds and taps; a tiny network; what tests of networks on cores share."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any
from unittest.mock import patch

import numpy as np

from stas_neuro.analysis import neuron_layers
from stas_neuro.exporters.lava.assemble import Assembly, NamedModels, models_of
from stas_neuro.exporters.lava.executor import execute
from stas_neuro.exporters.lava.lava_api import implements
from stas_neuro.exporters.lava.processes import (
    FIXED_POINT,
    FLOATING_POINT,
    PROCESSES,
    Inlet,
    NodeModel,
    NodeProcess,
    Run,
)
from stas_neuro.exporters.lava.schedule import EACH, Window
from stas_neuro.ir import (
    NODE_TYPES,
    Edge,
    Graph,
    Input,
    Kind,
    Linear,
    Node,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Stage,
    op_of,
)
from stas_neuro.mapping import CoreLocation, Piece
from stas_neuro.mapping import Mapping as Cores
from support.ir_random import images_for

Array = np.ndarray
Record = dict[str, Array]


class Tap(NodeProcess):
    """Keeps every message."""


@implements(proc=Tap)
class PyTapModel(NodeModel):
    def _compute(self, x: Array) -> None:
        self.record.setdefault("x", np.zeros((self.run_spec.images, self.window.steps, *x.shape), x.dtype))
        self.record["x"][self.now.image, self.now.step] = x


def node_of(op: str, name: str, **attributes: Any) -> Node:
    """A node with these attributes; the others, which its process is not to look at, are 1."""
    cls = NODE_TYPES[op]
    needed = {each.name: 1 for each in fields(cls) if each.default is MISSING}
    return cls(**{**needed, "phase": Phase.STEP, "scope": "stem", **attributes, "name": name})


def stepped(  # noqa: PLR0913
    op: str,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    params: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Array] | None = None,
    kinds: Mapping[str, str] | None = None,
    arrival: str = EACH,
    sends_last: bool = False,
    dtype: type = np.float64,
    record_spikes: bool = False,
    record_states: bool = False,
) -> tuple[dict[str, Array], Record]:
    """Send `inputs` (images, steps, *shape) through one process; what left each port, and its record."""
    images, steps = next(iter(inputs.values())).shape[:2]
    run = Run(
        images=images, period=steps, dtype=dtype, record_spikes=record_spikes, record_states=record_states
    )
    window, last = Window(0, steps), Window(steps - 1, 1)
    shapes = {port: data.shape[2:] for port, data in inputs.items()}
    feeds = {
        port: PROCESSES[Input](
            node=node_of("Input", f"feed.{port}", shape=shapes[port]), inlets={}, outlets={"y": shapes[port]},
            tensors={"images": data}, window=window, run=run,
        )
        for port, data in inputs.items()
    }  # fmt: skip
    twin = f"Fixed{op}" if run.fixed and f"Fixed{op}" in NODE_TYPES else op
    node = node_of(twin, "it", **params or {})
    process = PROCESSES[op_of(node)](
        node=node,
        inlets={
            port: Inlet(shape, Kind((kinds or {}).get(port, "spike")), arrival)
            for port, shape in shapes.items()
        },
        outlets=outputs,
        tensors=tensors or {},
        window=window,
        run=run,
    )
    taps = {
        port: Tap(
            node=node_of("Output", f"tap.{port}"), inlets={"x": Inlet(shape, Kind.CURRENT, EACH)},
            outlets={}, tensors={}, window=last if sends_last else window, run=run,
        )
        for port, shape in outputs.items()
    }  # fmt: skip
    for port, feed in feeds.items():
        feed.y_out.connect(getattr(process, f"{port}_in"))
    for port, tap in taps.items():
        getattr(process, f"{port}_out").connect(tap.x_in)
    processes = (*feeds.values(), process, *taps.values())
    models = {Tap: PyTapModel}
    with patch.dict(FLOATING_POINT, models), patch.dict(FIXED_POINT, models):
        executable = process.compile(NamedModels(models_of(processes, run)))
    records = execute(Assembly(processes, executable), run, lambda done: None)
    return {port: records[f"tap.{port}"]["x"] for port in outputs}, records["it"]


def inputs_of(graph: Graph, count: int, seed: int = 0) -> Array:
    """Images for a graph of floats, pixels for one of integers."""
    if graph.stage != Stage.QUANTISED:
        return images_for(graph, count, seed)
    frames = () if graph.input.phase == Phase.ONCE else (graph.time_steps,)
    return np.random.default_rng(seed).integers(0, 256, (count, *frames, *graph.input.shape))


def by_turns(graph: Graph, groups: int) -> Cores:
    """Tokens of every layer in `groups` by turns, each group on the same core; the rest on one of its own."""
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        cut = groups if positions == graph.tokens > 1 else 1
        for group in range(cut):
            held = tuple(range(group, positions, cut))
            core = group if cut > 1 else groups
            pieces.append(Piece(layer=layer, core=core, positions=held, features=(0, features)))
    sites = tuple(CoreLocation(chip=core % 2, x=core, y=core // 2) for core in range(groups + 1))
    return Cores(profile="loihi2", strategy="token-major", cores=sites, pieces=tuple(pieces))


@dataclass(frozen=True, kw_only=True, eq=False)
class Tampered(Graph):
    """A graph whose processes are given another array for a tensor than the one that was verified."""

    key: str = ""
    instead: Any = None

    def tensor(self, node: Node | str, param: str) -> Array:
        if f"{node if isinstance(node, str) else node.name}/{param}" == self.key:
            return self.instead
        return super().tensor(node, param)


def tiny() -> Graph:
    """Six processes, so that Lava's runtime starts in a second."""
    rng = np.random.default_rng(0)
    where = {"phase": Phase.STEP, "scope": "stem"}
    last = {"phase": Phase.END, "scope": "head"}
    return Graph(
        stage=Stage.FOLDED,
        time_steps=2,
        nodes=(
            Input(name="input", shape=(2, 3, 4), **where),
            NODE_TYPES["Tokens"](name="tokens", **where),
            Linear(name="fc", in_features=2, out_features=4, bias=False, **where),
            Readout(name="readout", mode="mean-field", blocks=1, normalise=False, **last),
            Linear(name="head", in_features=4, out_features=2, bias=True, **last),
            Output(name="output", **last),
        ),
        edges=tuple(
            Edge(src, "y", dst, port)
            for src, dst, port in (
                ("input", "tokens", "x"), ("tokens", "fc", "x"), ("fc", "readout", "z0"),
                ("readout", "head", "x"), ("head", "output", "x"),
            )
        ),
        tensors={
            "fc/weight": rng.normal(0, 1, (4, 2)),
            "head/weight": rng.normal(0, 1, (2, 4)),
            "head/bias": rng.normal(0, 1, (2,)),
        },
        classes=("a", "b"),
        preprocessing=Preprocessing(mean=(0.0, 0.0), std=(1.0, 1.0)),
    )  # fmt: skip


def tampered(graph: Graph, key: str, instead: Array) -> Tampered:
    given = {each.name: getattr(graph, each.name) for each in fields(graph) if each.init}
    return Tampered(**given, key=key, instead=instead)


class Trap(np.ndarray):
    """A tensor that calls `spring` where a process computes with it."""

    def __array_ufunc__(self, *arguments: object, **options: object) -> None:
        self.spring()

    def spring(self) -> None:
        raise NotImplementedError


class Exit(Trap):
    def spring(self) -> None:
        os._exit(3)


class Kill(Trap):
    def spring(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Stop(Trap):
    def spring(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class Hang(Trap):
    def spring(self) -> None:
        while True:
            pass
