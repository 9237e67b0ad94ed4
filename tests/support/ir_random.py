"""Random valid graphs: a recipe says what varies, `build` makes its graph; strategies give either."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stas_neuro.ir import (
    LIF,
    POLICIES,
    Add,
    Array,
    BatchNorm,
    Conv2d,
    Edge,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    ImageScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Phase,
    Preprocessing,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    Tokens,
)

HALTING = ("off", *POLICIES)
LAST_BLOCK = ("time", "image")
"""Policies whose only accumulator follows the last block."""
READOUTS = ("mean-field", "last-state", "rate")
STEMS = (
    "one-step",
    "sps",
    "max",
    "mean",
    "sum",
    "learned",
    "late-max",
    "late-mean",
    "late-sum",
    "late-learned",
)
Value = tuple[str, str]
"""A node's name and one of its output ports."""


@dataclass(frozen=True)
class Recipe:
    """A network of `blocks` spiking attention blocks on a convolutional stem."""

    seed: int = 0
    halting: str = "raster"
    readout: str = "mean-field"
    stem: str = "one-step"
    events: bool = False
    """One frame a step instead of one image."""
    membrane: bool = False
    """LIF before the linear layers and a residual stream of membrane currents, instead of spikes added."""
    sdsa: bool = False
    norm: bool = True
    """Traced, with BatchNorms, instead of folded."""
    bias: bool = True
    form: str = "Q(K^TV)"
    fire: str = ">="
    time_steps: int = 3
    blocks: int = 2
    channels: int = 2
    height: int = 4
    width: int = 6
    kernel: int = 3
    stride: int = 1
    pool: bool = True
    heads: int = 2
    head_dim: int = 3
    classes: int = 3
    epsilon: float = 0.05
    margin: float = 0.5
    alpha: float = 0.7
    beta: float = -1.0
    tau: float = 2.0
    dtype: str = "float64"

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim


@st.composite
def recipes(draw: st.DrawFn, **fixed: Any) -> Recipe:
    """Recipes of small networks; keywords fix what shall not vary."""
    small = st.integers(1, 3)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "seed": st.integers(0, 2**16),
        "halting": st.sampled_from(HALTING),
        "readout": st.sampled_from(READOUTS),
        "stem": st.sampled_from(STEMS),
        "form": st.sampled_from(("Q(K^TV)", "(QK^T)V")),
        "fire": st.sampled_from((">", ">=")),
        "time_steps": st.integers(1, 4),
        "blocks": small,
        "channels": small,
        "height": st.integers(3, 6),
        "width": st.integers(3, 6),
        "kernel": st.sampled_from((1, 2, 3)),
        "stride": st.sampled_from((1, 2)),
        "heads": small,
        "head_dim": small,
        "classes": small,
        "epsilon": st.sampled_from((0.0, 0.01, 0.3)),
        "margin": st.sampled_from((0.0, 0.3, 1.0, 100.0)),
        "alpha": st.sampled_from((0.3, 1.0)),
        "beta": st.sampled_from((-3.0, -1.0, 0.5)),
        "tau": st.sampled_from((1.0, 2.0, 3.0)),
        "dtype": st.sampled_from(("float32", "float64")),
    }
    for name in ("events", "membrane", "sdsa", "norm", "bias", "pool"):
        choices[name] = st.booleans()
    drawn = Recipe(
        **{name: fixed[name] if name in fixed else draw(choice) for name, choice in choices.items()}
    )
    # The margin of a prediction is between classes.
    return dataclasses.replace(drawn, classes=max(2, drawn.classes)) if drawn.halting == "image" else drawn


def graphs(**fixed: Any) -> st.SearchStrategy[Graph]:
    """Valid graphs of all node types."""
    return recipes(**fixed).map(build)


def images_for(graph: Graph, count: int, seed: int = 0) -> Array:
    """Random preprocessed images (or event frames) that a graph takes, float64."""
    frames = () if graph.input.phase == Phase.ONCE else (graph.time_steps,)
    return np.random.default_rng(seed).normal(0.5, 1.0, (count, *frames, *graph.input.shape))


def build(recipe: Recipe) -> Graph:
    """Make the graph of a recipe, weights drawn from its seed."""
    draft = _Draft(recipe)
    z = _stem(draft)
    states = []
    for block in range(recipe.blocks):
        z = _block(draft, block, z)
        states.append(z)
        _halt(draft, block, z)
    _head(draft, states)
    return Graph(
        stage=Stage.TRACED if recipe.norm else Stage.FOLDED,
        time_steps=recipe.time_steps,
        nodes=tuple(draft.nodes),
        edges=tuple(draft.edges),
        tensors=draft.tensors,
        classes=tuple(f"class {index}" for index in range(recipe.classes)),
        preprocessing=Preprocessing((0.5,) * recipe.channels, (0.25,) * recipe.channels),
    )


@dataclass
class _Draft:
    recipe: Recipe
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.recipe.seed)

    def add(self, node: Node, masked_by: Edge | None = None, **inputs: Value) -> Value:
        """Add a node with its inputs and its mask; gives its first output."""
        self.nodes.append(node)
        self.edges += [Edge(*source, node.name, port) for port, source in inputs.items()]
        if masked_by is not None:
            self.edges.append(dataclasses.replace(masked_by, dst=node.name))
        for param, shape in node.params(self.recipe.time_steps).items():
            self.tensors[f"{node.name}/{param}"] = self._tensor(param, shape)
        return node.name, node.OUTPUTS[0] if node.OUTPUTS else ""

    def _tensor(self, param: str, shape: tuple[int, ...]) -> Array:
        if param in ("gamma", "var", "weights"):
            values = self.rng.uniform(0.5, 1.5, shape)
        elif param == "weight":
            values = self.rng.normal(0.2, 2.5 / np.sqrt(np.prod(shape[1:])), shape)
        else:
            values = self.rng.normal(0.0, 0.3, shape)
        return values.astype(self.recipe.dtype if self.recipe.norm else np.float64)

    def norm(
        self, name: str, x: Value, features: int, phase: Phase, scope: str, mask: Edge | None = None
    ) -> Value:
        if not self.recipe.norm:
            return x
        return self.add(
            BatchNorm(name=name, phase=phase, scope=scope, features=features, eps=1e-5), mask, x=x
        )

    def lif(
        self, name: str, x: Value, phase: Phase, scope: str, mask: Edge | None = None, at: float = 1.0
    ) -> Value:
        recipe = self.recipe
        node = LIF(name=name, phase=phase, scope=scope, tau=recipe.tau, threshold=at, fire=recipe.fire)  # type: ignore[arg-type]
        return self.add(node, mask, x=x)


def _stem(draft: _Draft) -> Value:
    recipe = draft.recipe
    spiking = {"one-step": Phase.ONCE, "sps": Phase.STEP}.get(recipe.stem, Phase.STEM)
    entry = spiking if recipe.events else Phase.ONCE
    if recipe.events and recipe.stem == "one-step":
        entry = Phase.STEM
    x = draft.add(
        Input(name="input", phase=entry, scope="stem", shape=(recipe.channels, recipe.height, recipe.width))
    )
    if recipe.events and recipe.stem == "one-step":
        x, entry = (
            draft.add(Integrate(name="stem.frames", phase=Phase.ONCE, scope="stem", mode="mean"), x=x),
            Phase.ONCE,
        )
    x = _conv(draft, 0, x, recipe.channels, 3, entry, recipe.stride)
    phase = spiking
    x = draft.lif("stem.lif0", x, phase, "stem", at=0.7)
    if recipe.stem in ("max", "mean", "sum", "learned"):
        x, phase = _integrate(draft, x), Phase.ONCE
    x = _conv(draft, 1, x, 3, recipe.dim, phase, 1)
    x = draft.lif("stem.lif1", x, phase, "stem")
    if recipe.pool:
        x = draft.add(
            SpikeMaxPool(name="stem.pool", phase=phase, scope="stem", kernel=3, stride=2, padding=1), x=x
        )
    side = _conv(draft, 2, x, recipe.dim, recipe.dim, phase, 1, kernel=3)
    if recipe.membrane:
        x = side
    else:
        side = draft.lif("stem.side_lif", side, phase, "stem")
        x = draft.add(Add(name="stem.add", phase=phase, scope="stem"), a=x, b=side)
    if recipe.stem.startswith("late-"):
        x, phase = _integrate(draft, x), Phase.ONCE
    return draft.add(Tokens(name="stem.tokens", phase=phase, scope="stem"), x=x)


def _conv(
    draft: _Draft, index: int, x: Value, into: int, out: int, phase: Phase, stride: int, kernel: int = 0
) -> Value:
    kernel = kernel or draft.recipe.kernel
    node = Conv2d(
        name=f"stem.conv{index}", phase=phase, scope="stem", in_channels=into, out_channels=out,
        kernel=kernel, stride=stride, padding=kernel // 2, bias=draft.recipe.bias,
    )  # fmt: skip
    return draft.norm(f"stem.bn{index}", draft.add(node, x=x), out, phase, "stem")


def _integrate(draft: _Draft, x: Value) -> Value:
    mode: Any = draft.recipe.stem.removeprefix("late-")
    return draft.add(Integrate(name="stem.integrate", phase=Phase.ONCE, scope="stem", mode=mode), x=x)


def _mask(recipe: Recipe, block: int, port: str = "alive", output: str = "alive") -> Edge | None:
    """The edge that brings a visit of `block` its mask (or total)."""
    last = "halt0" if recipe.halting in LAST_BLOCK else f"halt{recipe.blocks - 1}"
    if recipe.halting in LAST_BLOCK or (recipe.halting == "raster" and block == 0):
        return Edge(last, output, "", port, delay=1)
    if recipe.halting == "off" or block == 0:
        return None
    return Edge(f"halt{block - 1}", output, "", port)


def _block(draft: _Draft, block: int, x: Value) -> Value:
    recipe = draft.recipe
    dim, hidden = recipe.dim, 2 * recipe.dim
    where: dict[str, Any] = {"phase": Phase.STEP, "scope": f"block{block}"}
    mask = _mask(recipe, block)

    def named(name: str) -> str:
        return f"blocks.{block}.{name}"

    def lif(name: str, x: Value, at: float = 1.0) -> Value:
        return draft.lif(named(name), x, **where, mask=mask, at=at)

    def linear(name: str, x: Value, into: int, out: int) -> Value:
        node = Linear(name=named(name), **where, in_features=into, out_features=out, bias=recipe.bias)
        # The mask belongs to the BatchNorm; on the Linear too only as long as it has a bias to hide.
        y = draft.add(node, mask if recipe.bias or not recipe.norm else None, x=x)
        return draft.norm(named(f"{name}_bn"), y, out, **where, mask=mask)

    if mask is not None:
        gate = Gate(name=named("gate"), **where, axis="token")
        x = draft.add(gate, dataclasses.replace(mask, dst_port="mask"), x=x)
    source = lif("in_lif", x) if recipe.membrane else x
    q, k, v = (lif(f"{name}_lif", linear(name, source, dim, dim)) for name in "qkv")
    if recipe.sdsa:
        columns = draft.add(MaskedColumnSum(name=named("columns"), **where), k=k, v=v)
        channels = draft.lif(named("mask_lif"), columns, **where, at=0.5)
        attended = draft.add(Gate(name=named("select"), **where, axis="channel"), x=q, mask=channels)
    else:
        form: Any = recipe.form
        product = draft.add(
            SpikeMatMul(name=named("attn"), **where, heads=recipe.heads, form=form), q=q, k=k, v=v
        )
        attended = lif("attn_lif", product, 0.5)
    y = linear("proj", attended, dim, dim)
    x = draft.add(Add(name=named("add0"), **where), a=x, b=y if recipe.membrane else lif("proj_lif", y))
    y = linear("fc1", lif("fc1_lif", x) if recipe.membrane else x, dim, hidden)
    y = linear("fc2", lif("fc2_lif", y), hidden, dim)
    return draft.add(Add(name=named("add1"), **where), a=x, b=y if recipe.membrane else lif("out_lif", y))


def _halt(draft: _Draft, block: int, z: Value) -> None:
    recipe = draft.recipe
    last = block == recipe.blocks - 1
    if recipe.halting == "off" or (recipe.halting in LAST_BLOCK and not last):
        return
    index = 0 if recipe.halting in LAST_BLOCK else block
    where: dict[str, Any] = {"phase": Phase.STEP, "scope": "halting"}
    of_score: Node = HaltingScore(name=f"score{index}", **where, alpha=recipe.alpha, beta=recipe.beta)
    if recipe.halting == "image":
        of_score = ImageScore(
            name=f"score{index}", **where, features=recipe.dim, classes=recipe.classes, margin=recipe.margin
        )
    score = draft.add(of_score, z=z)
    mode: Any = recipe.halting
    node = HaltAccumulate(name=f"halt{index}", **where, mode=mode, epsilon=recipe.epsilon, last_block=last)
    draft.add(node, _mask(recipe, block), score=score)
    total = _mask(recipe, block, "total", "total")
    if total is not None:
        draft.edges.append(dataclasses.replace(total, dst=node.name))


def _head(draft: _Draft, states: list[Value]) -> None:
    recipe = draft.recipe
    where: dict[str, Any] = {"phase": Phase.END, "scope": "head"}
    weighted = recipe.readout == "mean-field"
    mode: Any = recipe.readout
    node = Readout(
        name="readout", **where, mode=mode, blocks=recipe.blocks,
        normalise=weighted and recipe.halting in ("rectangular", "image"),
    )  # fmt: skip
    y = draft.add(node)
    by_block = recipe.halting not in ("off", *LAST_BLOCK)
    for block in range(recipe.blocks) if by_block else (recipe.blocks - 1,):
        draft.edges.append(Edge(*states[block], "readout", f"z{block}"))
        mask = _mask(recipe, block, f"alive{block}")
        if weighted and recipe.halting != "off":
            draft.edges.append(Edge(f"halt{block if by_block else 0}", "p", "readout", f"p{block}"))
        elif not weighted and mask is not None:
            draft.edges.append(dataclasses.replace(mask, dst="readout"))
    y = draft.add(
        Linear(name="head", **where, in_features=recipe.dim, out_features=recipe.classes, bias=True), x=y
    )
    draft.add(Output(name="output", **where), x=y)
