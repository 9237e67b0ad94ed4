"""Random valid graphs: a recipe says what varies, `build` makes its graph; strategies give either."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import lru_cache
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
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    SynapticCurrent,
    TokenMean,
    Tokens,
)

HALTING = ("off", *POLICIES)
LAST_BLOCK = ("time", "image")
"""Policies whose only accumulator follows the last block."""
READOUTS = ("mean-field", "last-state", "rate")
SHRINKS = ("no", "stride", "pool")
HEADS = ("tokens", "mean", "mean-first")
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
    mixed: bool = False
    """Queries, keys and values read a stream of currents without neurons, and spikes are added to it."""
    sdsa: bool = False
    qk: bool = False
    """The first block gates the heads of each token by sums of spikes instead of attention."""
    iand: bool = False
    """Residuals of spikes without a sum, where the stream has spikes: see `ands`."""
    norm: bool = True
    """Traced, with BatchNorms, instead of folded."""
    bias: bool = True
    form: str = "Q(K^TV)"
    outlast: bool = False
    """Synaptic input of the stem's last neurons outlasts a step."""
    fire: str = ">="
    time_steps: int = 3
    blocks: int = 2
    channels: int = 2
    height: int = 4
    width: int = 6
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    """Of convolutions whose channels it divides; of others its largest divisor that does."""
    oblong: bool = False
    """Windows that are two columns wider than high, and move by one column."""
    dilated: bool = False
    """Odd windows with taps two rows apart."""
    biases: bool = False
    """A bias for each position, where convolutions have biases."""
    pool: bool = True
    shrink: str = "no"
    """How tokens become a map and then fewer tokens: before the last of several blocks, or before all."""
    head: str = "tokens"
    """What the readout reads where none halts: tokens, or spikes of a layer after or before their mean."""
    heads: int = 2
    head_dim: int = 3
    classes: int = 3
    epsilon: float = 0.05
    margin: float = 0.5
    summed: bool = False
    closes: int | None = None
    """Step from which on tokens halt behind every block that decides, by a cap on visits."""
    together: int = 0
    """Number of groups of tokens that halt together, in turns; 0 if each halts alone."""
    alpha: float = 0.7
    beta: float = -1.0
    tau: float = 2.0
    decay_input: bool = True
    """An infinite tau has none."""
    reset: str = "zero"
    dtype: str = "float64"

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def ands(self) -> bool:
        """Whether residuals are gates of spikes."""
        return self.iand and not self.membrane and self.stem not in ("late-mean", "late-sum", "late-learned")


@st.composite
def recipes(draw: st.DrawFn, **fixed: Any) -> Recipe:
    """Recipes of small networks; keywords fix what shall not vary."""
    small = st.integers(1, 3)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "seed": st.integers(0, 2**16),
        "halting": st.sampled_from(HALTING),
        "readout": st.sampled_from(READOUTS),
        "stem": st.sampled_from(STEMS),
        "shrink": st.sampled_from(SHRINKS),
        "head": st.sampled_from(HEADS),
        "form": st.sampled_from(("Q(K^TV)", "(QK^T)V")),
        "fire": st.sampled_from((">", ">=")),
        "time_steps": st.integers(1, 4),
        "blocks": small,
        "channels": small,
        "height": st.integers(3, 6),
        "width": st.integers(3, 6),
        "kernel": st.sampled_from((1, 2, 3)),
        "stride": st.sampled_from((1, 2)),
        "groups": st.sampled_from((1, 2, 3, 6)),
        "heads": small,
        "head_dim": small,
        "classes": small,
        "epsilon": st.sampled_from((0.0, 0.01, 0.3)),
        "margin": st.sampled_from((0.0, 0.3, 1.0, 100.0)),
        "summed": st.booleans(),
        "closes": st.one_of(st.none(), st.integers(0, 3)),
        "together": st.sampled_from((0, 0, 1, 2)),
        "alpha": st.sampled_from((0.3, 1.0)),
        "beta": st.sampled_from((-3.0, -1.0, 0.5)),
        "tau": st.sampled_from((1.0, 2.0, 3.0, math.inf)),
        "reset": st.just("zero"),  # tests of what knows the other fix it
        "mixed": st.just(False),  # likewise: as integers it has other nodes
        "dtype": st.sampled_from(("float32", "float64")),
    }
    names = ("events", "membrane", "sdsa", "qk", "iand", "norm", "bias", "pool", "oblong", "decay_input")
    names += ("dilated", "biases", "outlast")
    for name in names:
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


@lru_cache(maxsize=256)  # graphs are frozen
def build(recipe: Recipe) -> Graph:
    """Make the graph of a recipe, weights drawn from its seed."""
    draft = _Draft(recipe)
    z, phase = _stem(draft)
    # Blocks that halt have the same number of tokens.
    shrinks = recipe.blocks - 1 if recipe.halting == "off" else 0
    if recipe.shrink != "no" and not shrinks:
        z = _shrink(draft, z, phase, "stem")
    states = []
    for block in range(recipe.blocks):
        if recipe.shrink != "no" and shrinks and block == shrinks:
            z = _shrink(draft, z, Phase.STEP, f"block{block}")
        z = _block(draft, block, z)
        states.append(z)
        _halt(draft, block, z)
    if recipe.head != "tokens" and recipe.halting == "off":
        states.append(_mean(draft, states.pop()))
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
        self.size = self.recipe.height, self.recipe.width
        """Of the map at work, or of the grid of tokens."""

    def windows(self, kernel: int, stride: int, padding: int) -> dict[str, Any]:
        """Attributes of a window that slides over the map at work, whose size becomes that of the result."""
        # With taps two rows apart and twice the padding, an odd kernel gives a map of the same size.
        apart = 2 if self.recipe.dilated and kernel == 2 * padding + 1 else 1
        sides = ((kernel,) * 2, (stride,) * 2, (padding * apart, padding))
        if self.recipe.oblong:
            sides = ((kernel, kernel + 2), (stride, 1), (padding * apart, padding + 1))
        dilation = (apart, 1)
        height, width = (
            (length + 2 * around - (long - 1) * between - 1) // step + 1
            for length, long, step, around, between in zip(self.size, *sides, dilation, strict=True)
        )
        self.size = height, width
        return dict(zip(("kernel", "stride", "padding", "dilation"), (*sides, dilation), strict=True))

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
        fire: Any = recipe.fire
        reset: Any = recipe.reset
        node = LIF(
            name=name, phase=phase, scope=scope, tau=recipe.tau, threshold=at, fire=fire,
            decay_input=recipe.decay_input and recipe.tau < math.inf, reset=reset,
        )  # fmt: skip
        return self.add(node, mask, x=x)


def _stem(draft: _Draft) -> tuple[Value, Phase]:
    """Make the stem; gives its tokens, and the phase they are computed in."""
    recipe = draft.recipe

    def stem(phase: Phase) -> dict[str, Any]:
        return {"phase": phase, "scope": "stem"}

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
    x = _conv(draft, "stem.conv0", x, recipe.channels, 3, stem(entry), recipe.stride)
    phase = spiking
    x = draft.lif("stem.lif0", x, phase, "stem", at=0.7)
    if recipe.stem in ("max", "mean", "sum", "learned"):
        x, phase = _integrate(draft, x), Phase.ONCE
    x = _conv(draft, "stem.conv1", x, 3, recipe.dim, stem(phase), 1)
    if recipe.outlast:
        current = SynapticCurrent(
            name="stem.current", **stem(phase), tau=recipe.tau if recipe.tau < math.inf else 1.5,
            features=recipe.dim, bias=recipe.bias,
        )  # fmt: skip
        x = draft.add(current, x=x)
    x = draft.lif("stem.lif1", x, phase, "stem")
    if recipe.pool:
        x = draft.add(
            SpikeMaxPool(name="stem.pool", phase=phase, scope="stem", **draft.windows(3, 2, 1)), x=x
        )
    side = _conv(draft, "stem.conv2", x, recipe.dim, recipe.dim, stem(phase), 1, kernel=3)
    if recipe.membrane:
        x = side
    else:
        side = draft.lif("stem.side_lif", side, phase, "stem")
        x = _residual(draft, "stem.add", x, side, phase, "stem")
    if recipe.stem.startswith("late-"):
        x, phase = _integrate(draft, x), Phase.ONCE
    return draft.add(Tokens(name="stem.tokens", phase=phase, scope="stem"), x=x), phase


def _shrink(draft: _Draft, x: Value, phase: Phase, scope: str) -> Value:
    """Mix tokens on a map, and make fewer of them."""
    recipe = draft.recipe
    dim = recipe.dim
    where: dict[str, Any] = {"phase": phase, "scope": scope}
    height, width = draft.size
    if recipe.membrane:
        x = draft.lif("shrink.in_lif", x, **where)
    # One layer makes more than is used: of currents and of spikes, of tokens and of a map, some are left out.
    node = Linear(name="shrink.fc", **where, in_features=dim, out_features=dim + 2, bias=recipe.bias)
    y = draft.norm("shrink.fc_bn", draft.add(node, x=x), dim + 2, **where)
    y = draft.add(Slice(name="shrink.currents", **where, start=1, stop=dim + 2), x=y)
    y = draft.lif("shrink.fc_lif", y, **where)
    y = draft.add(Slice(name="shrink.spikes", **where, start=0, stop=dim), x=y)
    y = draft.add(Map(name="shrink.map", **where, height=height, width=width), x=y)
    pools = recipe.shrink == "pool"
    y = _conv(draft, "shrink.conv", y, dim, dim + 1, where, 1 if pools else 2, kernel=3)
    y = draft.add(Slice(name="shrink.channels", **where, start=1, stop=dim + 1), x=y)
    window = draft.windows(3, 2, 1) if pools else {}
    if pools:
        y = draft.add(MaxPool(name="shrink.pool", **where, **window), x=y)
    if not recipe.membrane:
        y = draft.lif("shrink.out_lif", y, **where)
    if pools and not recipe.membrane:
        # Of the sums of spikes the largest too: a residual that the spikes of fewer tokens are added to.
        side = draft.add(Map(name="shrink.side_map", **where, height=height, width=width), x=x)
        pool = SpikeMaxPool if recipe.ands else MaxPool
        side = draft.add(pool(name="shrink.side_pool", **where, **window), x=side)
        y = _residual(draft, "shrink.add", side, y, phase, scope)
    return draft.add(Tokens(name="shrink.tokens", **where), x=y)


def _residual(draft: _Draft, name: str, x: Value, branch: Value, phase: Phase, scope: str) -> Value:
    """Add a branch; with `ands` the stem keeps the spikes of both, and blocks those that the branch lacks."""
    node: Node = Add(name=name, phase=phase, scope=scope)
    if draft.recipe.ands:
        node = SpikeAnd(name=name, phase=phase, scope=scope, invert=scope != "stem")
    return draft.add(node, a=x, b=branch)


def _conv(
    draft: _Draft,
    name: str,
    x: Value,
    into: int,
    out: int,
    where: dict[str, Any],
    stride: int,
    kernel: int = 0,
) -> Value:
    kernel = kernel or draft.recipe.kernel
    window = draft.windows(kernel, stride, kernel // 2)
    recipe = draft.recipe
    node = Conv2d(
        name=name, **where, in_channels=into, out_channels=out, **window, bias=recipe.bias,
        groups=math.gcd(recipe.groups, into, out),
        bias_map=draft.size if recipe.bias and recipe.biases else (),
    )  # fmt: skip
    return draft.norm(name.replace("conv", "bn"), draft.add(node, x=x), out, **where)


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

    def attention(source: Value) -> Value:
        q, k = (lif(f"{name}_lif", linear(name, source, dim, dim)) for name in "qk")
        if recipe.qk and block == 0:
            sums = draft.add(HeadSum(name=named("head_sum"), **where, heads=recipe.heads), x=q)
            heads = lif("head_lif", sums, 0.5)
            return draft.add(Gate(name=named("head_gate"), **where, axis="head"), x=k, mask=heads)
        v = lif("v_lif", linear("v", source, dim, dim))
        if recipe.sdsa:
            columns = draft.add(MaskedColumnSum(name=named("columns"), **where), k=k, v=v)
            channels = draft.lif(named("mask_lif"), columns, **where, at=0.5)
            return draft.add(Gate(name=named("select"), **where, axis="channel"), x=q, mask=channels)
        form: Any = recipe.form
        product = draft.add(
            SpikeMatMul(name=named("attn"), **where, heads=recipe.heads, form=form), q=q, k=k, v=v
        )
        return lif("attn_lif", product, 0.5)

    if mask is not None:
        gate = Gate(name=named("gate"), **where, axis="token")
        x = draft.add(gate, dataclasses.replace(mask, dst_port="mask"), x=x)
    mixed = recipe.membrane and recipe.mixed
    y = linear("proj", attention(lif("in_lif", x) if recipe.membrane and not mixed else x), dim, dim)
    branch = y if recipe.membrane and not mixed else lif("proj_lif", y)
    x = _residual(draft, named("add0"), x, branch, **where)
    y = linear("fc1", lif("fc1_lif", x) if recipe.membrane else x, dim, hidden)
    y = linear("fc2", lif("fc2_lif", y), hidden, dim)
    return _residual(draft, named("add1"), x, y if recipe.membrane else lif("out_lif", y), **where)


def _halt(draft: _Draft, block: int, z: Value) -> None:
    recipe = draft.recipe
    last = block == recipe.blocks - 1
    if recipe.halting == "off" or (recipe.halting in LAST_BLOCK and not last):
        return
    index = 0 if recipe.halting in LAST_BLOCK else block
    where: dict[str, Any] = {"phase": Phase.STEP, "scope": "halting"}
    tokens = draft.size[0] * draft.size[1]
    groups = tuple(n % recipe.together for n in range(tokens)) if recipe.together else ()
    of_score: Node = HaltingScore(
        name=f"score{index}", **where, alpha=recipe.alpha, beta=recipe.beta, groups=groups
    )
    if recipe.halting == "image":
        of_score = ImageScore(
            name=f"score{index}",
            **where,
            features=recipe.dim,
            classes=recipe.classes,
            margin=recipe.margin,
            summed=recipe.summed,
        )
    score = draft.add(of_score, z=z)
    mode: Any = recipe.halting
    # Visits end in the midst of a step: the blocks below the middle one close with the next step.
    closes = None if recipe.closes is None else recipe.closes + (block < (recipe.blocks - 1) // 2)
    node = HaltAccumulate(
        name=f"halt{index}", **where, mode=mode, epsilon=recipe.epsilon, last_block=last, closes=closes
    )
    draft.add(node, _mask(recipe, block), score=score)
    total = _mask(recipe, block, "total", "total")
    if total is not None:
        draft.edges.append(dataclasses.replace(total, dst=node.name))


def _mean(draft: _Draft, x: Value) -> Value:
    """Take the mean over tokens of what a layer takes, or of what it makes."""
    recipe = draft.recipe
    where: dict[str, Any] = {"phase": Phase.STEP, "scope": "head"}
    if recipe.membrane and recipe.head == "mean":
        return draft.lif("neck.lif", draft.add(TokenMean(name="neck.mean", **where), x=x), **where)
    if recipe.membrane:
        x = draft.lif("neck.in_lif", x, **where)
    if recipe.head == "mean-first":
        x = draft.add(TokenMean(name="neck.mean", **where), x=x)
    node = Linear(name="neck.fc", **where, in_features=recipe.dim, out_features=recipe.dim, bias=recipe.bias)
    x = draft.norm("neck.bn", draft.add(node, x=x), recipe.dim, **where)
    if recipe.head == "mean":
        x = draft.add(TokenMean(name="neck.mean", **where), x=x)
    return draft.lif("neck.lif", x, **where)


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
