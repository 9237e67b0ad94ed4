"""The reference interpreter against loops written out: operators, halting token by token, counts, options."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import HALTING, READOUTS, Recipe, build, images_for, recipes

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    Array,
    Conv2d,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Linear,
    MaskedColumnSum,
    Phase,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
)
from stas_neuro.ir.ops.windows import Pair
from stas_neuro.reference import run_reference
from stas_neuro.reference.ops import OPERATORS
from stas_neuro.reference.ops.base import NodeContext
from stas_neuro.trace import Trace

AT = {"name": "n", "phase": Phase.STEP, "scope": "s"}


def compute(node, inputs: Mapping[str, Array], skip: bool = True, **tensors: Array) -> Array:
    outputs = OPERATORS[type(node)](node, inputs, NodeContext(tensors, steps=1, skip=skip))
    return outputs[node.OUTPUTS[0]]


def same_run(a: Trace, b: Trace, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(a.logits, b.logits, rtol=0, atol=atol)
    np.testing.assert_array_equal(a.visits, b.visits)
    assert a.spikes.keys() == b.spikes.keys()
    for name in a.spikes:
        np.testing.assert_array_equal(a.spikes[name], b.spikes[name], err_msg=name)
    assert a.activity == b.activity


# Operators ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"),
    [
        ((1, 1), (1, 1), (0, 0), 1),
        ((3, 3), (1, 1), (1, 1), 2),
        ((3, 3), (2, 2), (1, 1), 1),
        ((2, 2), (2, 2), (0, 0), 4),
        ((3, 3), (3, 3), (2, 2), 1),
        ((4, 4), (1, 1), (3, 3), 1),
        ((1, 5), (1, 2), (0, 4), 1),
        ((3, 2), (2, 1), (0, 1), 2),
    ],
)
def test_convolution_and_pool(kernel: Pair, stride: Pair, padding: Pair, groups: int):
    rng = np.random.default_rng(kernel[1])
    x, weight, bias = (
        rng.normal(size=(2, 4, 5, 7)),
        rng.normal(size=(8, 4 // groups, *kernel)),
        rng.normal(size=8),
    )
    spikes = (x > 0.8).astype(float)
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    y = compute(
        Conv2d(in_channels=4, out_channels=8, bias=True, groups=groups, **window, **AT),
        {"x": x}, weight=weight, bias=bias,
    )  # fmt: skip
    pooled = compute(SpikeMaxPool(**window, **AT), {"x": spikes})
    height, width = ((size + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i, size in enumerate((5, 7)))
    assert y.shape == (2, 8, height, width)
    assert pooled.shape == (2, 4, height, width)
    for image, row, column in itertools.product(range(2), range(height), range(width)):
        taps = [
            (i, j, row * stride[0] + i - padding[0], column * stride[1] + j - padding[1])
            for i, j in np.ndindex(kernel)
        ]
        inside = [(i, j, r, c) for i, j, r, c in taps if 0 <= r < 5 and 0 <= c < 7]
        for out in range(8):
            first = out * groups // 8 * (4 // groups)
            expected = bias[out] + sum(
                weight[out, channel, i, j] * x[image, first + channel, r, c]
                for channel in range(4 // groups)
                for i, j, r, c in inside
            )
            assert y[image, out, row, column] == pytest.approx(expected, abs=1e-12)
        for channel in range(4):
            fired = any(spikes[image, channel, r, c] for _, _, r, c in inside)
            assert pooled[image, channel, row, column] == fired


@pytest.mark.parametrize("form", ["Q(K^TV)", "(QK^T)V"])
def test_attention(form: str):
    rng = np.random.default_rng(1)
    q, k, v = (rng.integers(0, 2, (2, 5, 6)).astype(float) for _ in range(3))
    y = compute(SpikeMatMul(heads=2, scale=0.125, form=form, **AT), {"q": q, "k": k, "v": v})  # type: ignore[arg-type]
    for image, token, channel in itertools.product(range(2), range(5), range(6)):
        head = range(0, 3) if channel < 3 else range(3, 6)
        expected = sum(
            q[image, token, c] * k[image, other, c] * v[image, other, channel]
            for other in range(5)
            for c in head
        )
        assert y[image, token, channel] == 0.125 * expected
    columns = compute(MaskedColumnSum(**AT), {"k": k, "v": v})
    np.testing.assert_array_equal(columns, np.einsum("bnd,bnd->bd", k, v))


def test_sums_of_heads_are_counted_by_spike():
    x = np.random.default_rng(4).integers(0, 2, (2, 5, 6)).astype(float)
    y = compute(HeadSum(heads=2, **AT), {"x": x})
    assert y.shape == (2, 5, 2)
    for image, token, head in np.ndindex(y.shape):
        assert y[image, token, head] == x[image, token, 3 * head : 3 * head + 3].sum()
    graph = build(Recipe(qk=True, halting="off"))
    trace = run_reference(graph, images_for(graph, 2), record_spikes=True)
    steps = [trace.activity.step_index(f"step{t + 1}") for t in range(graph.time_steps)]
    for layer, source in (("head_sum", "q_lif"), ("head_gate", "k_lif")):
        sent = trace.spikes[f"blocks.0.{source}"].astype(int).sum(axis=(2, 3))
        assert sent.any()
        for kind in ("synops", "synops_unary"):
            np.testing.assert_array_equal(activity_of(trace, kind, f"blocks.0.{layer}")[:, steps], sent)


@pytest.mark.parametrize("invert", [False, True])
def test_gates_of_spikes(invert: bool):
    a, b = np.random.default_rng(5).integers(0, 2, (2, 2, 3, 4, 5)).astype(float)
    y = compute(SpikeAnd(invert=invert, **AT), {"a": a, "b": b})
    for place in np.ndindex(a.shape):
        assert y[place] == bool(a[place] and (not b[place] if invert else b[place]))


def test_gates_of_spikes_count_what_they_gate():
    graph = build(Recipe(seed=2, iand=True, pool=False, halting="off", time_steps=2))
    trace = run_reference(graph, images_for(graph, 2), record_spikes=True)
    spikes = {name: values.astype(bool) for name, values in trace.spikes.items()}
    steps = [trace.activity.step_index(f"step{t + 1}") for t in range(2)]
    once = trace.activity.step_index("once")
    both = spikes["stem.lif1"] & spikes["stem.side_lif"]
    stream = both.reshape(*both.shape[:3], -1).swapaxes(2, 3)  # of tokens
    rest = stream & ~spikes["blocks.0.proj_lif"]
    for kind in ("synops", "synops_unary"):
        counted = activity_of(trace, kind, "stem.add")[:, once]
        np.testing.assert_array_equal(counted, spikes["stem.lif1"].sum(axis=(1, 2, 3, 4)))
        counted = activity_of(trace, kind, "blocks.0.add0")[:, steps]
        np.testing.assert_array_equal(counted, np.repeat(stream.sum(axis=(2, 3)), 2, axis=1))
        counted = activity_of(trace, kind, "blocks.0.add1")[:, steps]
        np.testing.assert_array_equal(counted, rest.sum(axis=(2, 3)))
    assert rest.any() and (rest != stream).any()


def test_gates_by_the_axis_of_their_mask():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2, (2, 5, 6)).astype(float)
    shapes: dict[str, tuple[int, ...]] = {"token": (2, 5), "channel": (2, 6), "head": (2, 5, 2)}
    for axis, shape in shapes.items():
        mask = rng.integers(0, 2, shape).astype(float)
        y = compute(Gate(axis=axis, **AT), {"x": x, "mask": mask})  # type: ignore[arg-type]
        for image, token, channel in np.ndindex(x.shape):
            own = {"token": (token,), "channel": (channel,), "head": (token, channel // 3)}[axis]
            assert y[image, token, channel] == x[image, token, channel] * mask[image][own]


@pytest.mark.parametrize(
    ("fire", "decay_input", "tau"),
    [(">", True, 3.0), (">=", True, 3.0), (">", False, 3.0), (">=", False, math.inf)],
)
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_neuron_step_by_step(reset: str, fire: str, decay_input: bool, tau: float):
    node = LIF(tau=tau, threshold=1.0, fire=fire, decay_input=decay_input, reset=reset, **AT)  # type: ignore[arg-type]
    site = NodeContext({}, steps=4, skip=True)
    # The first step lands exactly on the threshold: 0 + (3 - 0) / 3, and 0 + 1.
    drive = [3.0, 0.9, 2.9, 7.0, -1.0] if decay_input else [1.0, 0.5, 0.4, 0.3, -1.0, 0.8, 1.3]
    v = 0.0
    for x in drive:
        spikes = OPERATORS[LIF](node, {"x": np.array([[[x]]])}, site)["s"]
        leak = 0.0 if tau == math.inf else v / tau
        v = v + (x - v) / tau if decay_input else v - leak + x
        fired = v >= 1.0 if fire == ">=" else v > 1.0
        v = (0.0 if reset == "zero" else v - 1.0) if fired else v
        assert spikes.item() == fired
        assert site.state["v"].item() == v


def test_halted_rows_are_not_computed():
    node = Linear(in_features=2, out_features=2, bias=True, **AT)
    x = np.array([[[1.0, 0.0], [np.nan, np.nan]]])
    alive = np.array([[1.0, 0.0]])
    tensors = {"weight": np.array([[1.0, 2.0], [3.0, 4.0]]), "bias": np.array([0.5, 0.25])}
    inputs = {"x": x, "alive": alive}
    np.testing.assert_array_equal(compute(node, inputs, skip=True, **tensors), [[[1.5, 3.25], [0.0, 0.0]]])
    assert np.isnan(compute(node, inputs, skip=False, **tensors)[0, 1]).all()


def test_score_of_far_values_neither_overflows_nor_vanishes_early():
    node = HaltingScore(alpha=1.0, beta=0.0, **AT)
    z = np.array([[[-1000.0], [-40.0], [0.0], [3.0], [1000.0]]])
    with np.errstate(all="raise", under="ignore"):
        h = compute(node, {"z": z})
    np.testing.assert_allclose(h, [[0.0, math.exp(-40), 0.5, 1 / (1 + math.exp(-3)), 1.0]], rtol=1e-12)


def test_tokens_of_a_group_have_the_score_of_their_sum():
    node = HaltingScore(alpha=1.0, beta=0.5, groups=(0, 1, 1), **AT)
    h = compute(node, {"z": np.array([[[1.0, 9.0], [-2.0, 9.0], [0.5, 9.0]]])})
    first, others = (1 / (1 + math.exp(-total - 0.5)) for total in (1.0, -1.5))
    np.testing.assert_allclose(h, [[first, others, others]], rtol=1e-12)


# Halting, token by token --------------------------------------------------------------------------------


class Token:
    """One token's way through all visits, by the rules of accumulation alone."""

    def __init__(self, graph: Graph, steps_of_image: int) -> None:
        self.steps_of_image = steps_of_image
        first = graph.accumulators[0] if graph.accumulators else None
        self.mode = first.mode if first else "off"
        self.limit = 1 - first.epsilon if first else math.inf
        self.steps, self.blocks = graph.time_steps, graph.blocks
        self.closes = [node.closes for node in graph.accumulators]
        self.scores: dict[tuple[int, int], float] = {}
        self.halted = False
        self.sum = 0.0

    def enters(self, t: int, l: int) -> bool:
        if l == 0 and self.mode in ("block", "rectangular"):
            self.halted, self.sum = False, 0.0
        if self.mode == "image":
            closes = self.closes[0]
            return t < self.steps_of_image and (closes is None or t <= closes)
        return not self.halted

    def leaves(self, t: int, l: int, h: float) -> float | None:
        """Account for a visit with score h; its weight, None where the visit has none."""
        last_block, last_step = l == self.blocks - 1, t == self.steps - 1
        if self.mode == "off":
            return 1 / self.steps if last_block else None
        if self.mode == "image":
            return 1.0 if last_block else None
        if self.mode == "rectangular":
            self.scores[t, l] = h
            area = sum(score for (s, b), score in self.scores.items() if s <= t and b <= l)
            self.halted = area >= self.limit or self.is_closed(t, l)
            return h
        if self.mode == "time" and not last_block:
            return None
        last = last_block and (last_step or self.mode == "block")
        if self.sum + h >= self.limit or last or self.is_closed(t, l):
            weight, self.halted = 1 - self.sum, True
        else:
            weight = h
        self.sum += h
        return weight / self.steps if self.mode == "block" else weight

    def is_closed(self, t: int, l: int) -> bool:
        closes = self.closes[min(l, len(self.closes) - 1)]
        return closes is not None and t >= closes


def steps_of_image(graph: Graph, stem: Array, spikes: dict[str, Array]) -> int:
    """Steps until the logits of their sum or mean are far enough apart; all of them for other policies."""
    sums = np.zeros(graph.types["head", "y"].shape)
    for score in graph.of_type(ImageScore):
        for t in range(graph.time_steps):
            z = stem + sum(
                spikes[f"blocks.{l}.{part}_lif"][t] for l in range(graph.blocks) for part in ("proj", "out")
            )
            sums += graph.tensor(score, "weight") @ z.mean(axis=0) + graph.tensor(score, "bias")
            second, first = sorted(sums if score.summed else sums / (t + 1))[-2:]
            if first - second >= score.margin:
                return t + 1
    return graph.time_steps


def replay(graph: Graph, trace: Trace, image: int) -> tuple[Array, Array]:
    """Visits (T, L, N) and logits of an image, from the recorded spikes and the rules for single tokens.

    For networks whose blocks add spikes: a block's output is its input plus those of proj_lif and out_lif.
    """
    spikes = {name: steps[image].astype(float) for name, steps in trace.spikes.items()}
    side = spikes["stem.side_lif"][0] + spikes["stem.lif1"][0]
    stem = side.reshape(side.shape[0], -1).T
    score = graph.of_type(HaltingScore)
    visits = np.zeros((graph.time_steps, graph.blocks, graph.tokens), bool)
    exit_after = steps_of_image(graph, stem, spikes)
    tokens = [Token(graph, exit_after) for _ in range(graph.tokens)]
    features = np.zeros((graph.tokens, stem.shape[1]))
    for n, token in enumerate(tokens):
        weighted, weights, last, by_step = [], [], None, []
        for t in range(graph.time_steps):
            z, in_step = stem[n], None
            for l in range(graph.blocks):
                entered = token.enters(t, l)
                visits[t, l, n] = entered
                if not entered:
                    z = 0 * z
                    continue
                z = z + spikes[f"blocks.{l}.proj_lif"][t, n] + spikes[f"blocks.{l}.out_lif"][t, n]
                h = 1 / (1 + math.exp(-(score[0].alpha * z[0] + score[0].beta))) if score else 0.0
                weight = token.leaves(t, l, h)
                if weight is not None:
                    weighted.append(weight * z)
                    weights.append(weight)
                # Off, time and image read the last block only.
                if token.mode not in ("off", "time", "image") or l == graph.blocks - 1:
                    last = in_step = z
            if in_step is not None:
                by_step.append(in_step)
        if graph.readout.mode == "mean-field":
            features[n] = sum(weighted) / (sum(weights) if token.mode in ("rectangular", "image") else 1)
        else:
            features[n] = last if graph.readout.mode == "last-state" else np.mean(by_step, axis=0)
    y = features.mean(axis=0)
    return visits, graph.tensor("head", "weight") @ y + graph.tensor("head", "bias")


@pytest.mark.parametrize("closes", (None, 2))
@pytest.mark.parametrize(("halting", "readout"), list(itertools.product(HALTING, READOUTS)))
def test_halting_and_readout_token_by_token(halting: str, readout: str, closes: int | None):
    shares = []
    for seed in range(4):
        recipe = Recipe(
            seed=seed,
            halting=halting,
            readout=readout,
            pool=False,
            time_steps=4,
            blocks=3,
            beta=-2.5,
            epsilon=0.1,
            margin=2.0,
            closes=closes,
        )
        graph = build(recipe)
        trace = run_reference(graph, images_for(graph, 2), record_spikes=True)
        for image in range(2):
            visits, logits = replay(graph, trace, image)
            np.testing.assert_array_equal(trace.visits[image], visits)
            np.testing.assert_allclose(trace.logits[image], logits, atol=1e-12)
        shares.append(trace.visits.mean(axis=(1, 2)))
    # The networks are ones where tokens halt, and not all alike.
    assert halting == "off" or (np.min(shares) < 1 and np.ptp(shares) > 0)


@pytest.mark.parametrize("halting", HALTING)
def test_tokens_that_halt_stay_halted_where_they_should(halting: str):
    graph = build(Recipe(halting=halting, time_steps=4, blocks=3, beta=-2.0))
    visits = run_reference(graph, images_for(graph, 3)).visits
    if halting == "off":
        assert visits.all()
    in_step = visits.reshape(3, 4, 3, -1)
    assert (in_step[:, :, 1:] <= in_step[:, :, :-1]).all()
    in_order = visits.reshape(3, 12, -1)
    if halting in ("raster", "time"):
        assert (in_order[:, 1:] <= in_order[:, :-1]).all()
    if halting in ("block", "rectangular"):
        assert in_step[:, :, 0].all()
    if halting == "rectangular":
        assert (in_step[:, 1:] <= in_step[:, :-1]).all()
    if halting == "time":
        assert (in_step == in_step[:, :, :1]).all()


def test_weights_of_a_token_sum_to_one():
    node = HaltAccumulate(mode="raster", epsilon=0.01, last_block=True, **AT)
    h = np.array([[0.6, 0.2, 0.995]])
    state: dict[str, Array] = {}
    weights = []
    site = NodeContext({}, steps=3, skip=True)
    for step in range(3):
        site.step = step
        outputs = OPERATORS[HaltAccumulate](node, {"score": h, **state}, site)
        weights.append(outputs.pop("p"))
        state = outputs
    np.testing.assert_allclose(weights, [[[0.6, 0.2, 1.0]], [[0.4, 0.2, 0.0]], [[0.0, 0.6, 0.0]]])
    assert not state["alive"].any()


# Options give the same result -----------------------------------------------------------------------------


@settings(max_examples=30)
@given(recipes(), st.integers(0, 99))
def test_skipping_and_chunks_change_nothing(recipe: Recipe, seed: int):
    graph = build(recipe)
    images = images_for(graph, 3, seed)
    dense = run_reference(graph, images, skip=False, record_spikes=True)
    same_run(run_reference(graph, images, skip=True, record_spikes=True), dense)
    same_run(run_reference(graph, images, chunk=2, record_spikes=True), dense)
    assert run_reference(graph, images).spikes == {}


def test_single_precision():
    graph = build(Recipe(dtype="float32"))
    images = images_for(graph, 4)
    single, double = (
        run_reference(graph, images, dtype=dtype, record_spikes=True) for dtype in (np.float32, np.float64)
    )
    assert single.logits.dtype == np.float32
    same_run(single, double, atol=1e-4)
    assert np.abs(single.logits - double.logits).max() > 0


def test_arithmetic_is_done_in_the_precision_asked_for():
    node = LIF(tau=3.0, threshold=9.0, fire=">", **AT)
    site = NodeContext({}, steps=2, skip=True)
    v = np.float32(0)
    for x in (np.float32(0.1), np.float32(0.7)):
        OPERATORS[LIF](node, {"x": np.full((1, 1), x)}, site)
        v = np.float32(v + np.float32(np.float32(x - v) / np.float32(3)))
    assert site.state["v"].dtype == np.float32
    assert site.state["v"].item() == v


# Counts -------------------------------------------------------------------------------------------------


def activity_of(trace: Trace, kind: str, layer: str) -> Array:
    """Counts (images, steps) of a layer."""
    return trace.activity.counts[kind][:, trace.activity.layer_index(layer)]


@settings(max_examples=40)
@given(recipes(), st.integers(0, 99))
def test_counts_follow_from_the_spikes(recipe: Recipe, seed: int):
    graph = build(recipe)
    trace = run_reference(graph, images_for(graph, 2, seed), record_spikes=True)
    for node in graph.of_type(LIF):
        spikes = trace.spikes[node.name]
        labels = {"once": ["once"]}.get(node.phase, [f"{node.phase}{t + 1}" for t in range(graph.time_steps)])
        at = [trace.activity.step_index(label) for label in labels]
        np.testing.assert_array_equal(
            activity_of(trace, "spikes_out", node.name)[:, at],
            spikes.reshape(*spikes.shape[:2], -1).sum(axis=2),
        )
        updates = sum(
            activity_of(trace, f"updates_{kind}", node.name) for kind in ("active", "inactive", "gated")
        )
        expected = np.zeros(updates.shape, int)
        expected[:, at] = math.prod(graph.types[node.name, "s"].shape)
        np.testing.assert_array_equal(updates, expected)
        assert (
            activity_of(trace, "updates_active", node.name) >= activity_of(trace, "spikes_out", node.name)
        ).all()
    # A LIF's spikes drive the Linear after it, and halted tokens are gated in every LIF of their block.
    steps = [trace.activity.step_index(f"step{t + 1}") for t in range(graph.time_steps)]
    for block in range(graph.blocks):
        out = activity_of(trace, "synops", f"blocks.{block}.fc2")
        np.testing.assert_array_equal(
            out, activity_of(trace, "spikes_out", f"blocks.{block}.fc2_lif") * recipe.dim
        )
        gated = activity_of(trace, "updates_gated", f"blocks.{block}.fc2_lif")[:, steps]
        np.testing.assert_array_equal(gated, (~trace.visits[:, :, block]).sum(axis=2) * 2 * recipe.dim)


@pytest.mark.parametrize(
    ("kernel", "stride", "height", "width"), [(1, 1, 4, 5), (3, 1, 3, 6), (3, 2, 6, 5), (2, 2, 5, 5)]
)
def test_convolution_synapses_at_the_border(kernel: int, stride: int, height: int, width: int):
    """With all weights 1, the outputs of a convolution add up to the synapses that its inputs drive."""
    recipe = Recipe(
        kernel=kernel, stride=stride, height=height, width=width, pool=False, stem="sum", bias=False
    )
    graph = build(recipe)
    images = images_for(graph, 3)
    trace = run_reference(graph, images, record_spikes=True)
    # The current of the first convolution is supplied to neurons that run in every step of the stem.
    once, stem = (trace.activity.step_index(label) for label in ("once", "stem2"))
    ones = {
        "stem.conv0": np.ones(images.shape),
        "stem.conv1": trace.spikes["stem.lif0"].sum(axis=1).astype(float),
    }
    for name, values in ones.items():
        node = graph.node(name)
        weight = np.ones(graph.tensor(name, "weight").shape)
        synops = compute(node, {"x": (values != 0).astype(float)}, weight=weight).sum(axis=(1, 2, 3))
        unary = compute(node, {"x": values}, weight=weight).sum(axis=(1, 2, 3))
        if name == "stem.conv0":
            np.testing.assert_array_equal(activity_of(trace, "macs", name)[:, stem], synops)
            assert not activity_of(trace, "synops", name).any()
        else:
            np.testing.assert_array_equal(activity_of(trace, "synops", name)[:, once], synops)
            np.testing.assert_array_equal(activity_of(trace, "synops_unary", name)[:, once], unary)
            assert (unary > synops).all()
            assert not activity_of(trace, "macs", name).any()


@pytest.mark.parametrize("form", ["Q(K^TV)", "(QK^T)V"])
def test_products_of_spikes(form: str):
    graph = build(Recipe(form=form, halting="raster", heads=2, head_dim=3))
    trace = run_reference(graph, images_for(graph, 2), record_spikes=True)
    for image, t in itertools.product(range(2), range(graph.time_steps)):
        q, k, v = (trace.spikes[f"blocks.0.{name}_lif"][image, t].astype(int) for name in "qkv")
        synops = unary = 0
        for head in (slice(0, 3), slice(3, 6)):
            if form == "Q(K^TV)":
                both = sum(k[n, head].sum() * v[n, head].sum() for n in range(graph.tokens))
                synops += both + q[:, head].sum() * 3
                unary += both + q[:, head].sum() * 3
                continue
            for i, j in itertools.product(range(graph.tokens), repeat=2):
                coincidences = (q[i, head] & k[j, head]).sum()
                synops += coincidences + (coincidences > 0) * v[j, head].sum()
                unary += coincidences + coincidences * v[j, head].sum()
        at = trace.activity.step_index(f"step{t + 1}")
        assert activity_of(trace, "synops", "blocks.0.attn")[image, at] == synops
        assert activity_of(trace, "synops_unary", "blocks.0.attn")[image, at] == unary


def test_column_sums_and_channel_gates():
    graph = build(Recipe(sdsa=True, halting="off"))
    trace = run_reference(graph, images_for(graph, 2), record_spikes=True)
    steps = [trace.activity.step_index(f"step{t + 1}") for t in range(graph.time_steps)]
    q, k, v = (trace.spikes[f"blocks.0.{name}_lif"].astype(int) for name in "qkv")
    np.testing.assert_array_equal(
        activity_of(trace, "synops", "blocks.0.columns")[:, steps], (k & v).sum(axis=(2, 3))
    )
    np.testing.assert_array_equal(
        activity_of(trace, "synops", "blocks.0.select")[:, steps], q.sum(axis=(2, 3))
    )


@pytest.mark.parametrize("halting", HALTING)
def test_scores_and_weights_are_counted_for_visited_tokens(halting: str):
    graph = build(Recipe(halting=halting, time_steps=3, blocks=2, beta=-2.0))
    trace = run_reference(graph, images_for(graph, 3))
    last = trace.visits[:, :, 1:].sum()
    scored = {"off": 0, "time": last, "image": last}.get(halting, trace.visits.sum())
    assert trace.activity.total("score_lookups") == scored
    assert trace.activity.total("readout_macs") == scored * 6
    assert trace.activity.total("macs") > 0


# Refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 4, 6)), r"images have shape \(2, 3, 4, 6\); give \(images, 2, 4, 6\)"),
        (np.zeros((2, 4, 6)), r"images have shape \(2, 4, 6\)"),
        (np.zeros((0, 2, 4, 6)), "at least 1 image"),
        (np.zeros((2, 2, 4, 6), np.uint8), "uint8.* are not finite floats"),
        (np.full((2, 2, 4, 6), np.nan), "are not finite floats"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Array, message: str):
    with pytest.raises(InputError, match=message):
        run_reference(build(Recipe()), images)


def test_event_data_needs_a_frame_a_step():
    graph = build(Recipe(events=True, stem="max"))
    with pytest.raises(InputError, match=r"give \(images, 3, 2, 4, 6\)"):
        run_reference(graph, np.zeros((2, 2, 4, 6)))
    frames = images_for(graph, 2)
    repeated = np.repeat(frames[:, :1], 3, axis=1)
    assert not np.array_equal(run_reference(graph, frames).logits, run_reference(graph, repeated).logits)


def test_constant_frames_equal_a_still_image():
    still = build(Recipe(stem="max"))
    moving = build(Recipe(stem="max", events=True))
    image = images_for(still, 2)
    a = run_reference(still, image, record_spikes=True)
    b = run_reference(moving, np.repeat(image[:, None], 3, axis=1), record_spikes=True)
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-12)
    assert a.spikes["stem.lif0"].shape == b.spikes["stem.lif0"].shape == (2, 3, 3, 4, 6)


def test_graphs_survive_a_run_unchanged():
    graph = build(Recipe())
    before = dataclasses.replace(graph)
    run_reference(graph, images_for(graph, 2))
    assert graph == before


def test_a_run_that_is_not_counted_is_the_same_run() -> None:
    graph = build(Recipe(halting="raster"))
    images = images_for(graph, 3)
    counted, plain = (
        run_reference(graph, images, count=count, record_spikes=True, chunk=2) for count in (True, False)
    )
    np.testing.assert_array_equal(plain.logits, counted.logits)
    np.testing.assert_array_equal(plain.visits, counted.visits)
    assert all((plain.spikes[name] == spikes).all() for name, spikes in counted.spikes.items())
    assert plain.counted is None
    with pytest.raises(InputError, match="not counted"):
        _ = plain.activity
    with pytest.raises(InputError, match="only some of the traces have activity"):
        Trace.concatenate([counted, plain])
