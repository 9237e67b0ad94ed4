"""Each Lava process alone, compiled and built by Lava, against a formula written out here."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lava_support import stepped

from stas_neuro.exporters.lava.schedule import DELAYED, HELD
from stas_neuro.ir.ops.windows import Pair

Array = np.ndarray


def spikes(seed: int, *shape: int, rate: float = 0.4) -> Array:
    return (np.random.default_rng(seed).random(shape) < rate).astype(float)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, shape)


# Synapses


def test_linear_multiplies_and_gives_dead_tokens_no_bias() -> None:
    x, alive = spikes(0, 2, 3, 5, 4), spikes(1, 2, 3, 5, rate=0.6)
    x *= alive[..., None]
    weight, bias = normal(2, 6, 4), normal(3, 6)
    out, record = stepped(
        "Linear", {"x": x, "alive": alive}, {"y": (5, 6)}, tensors={"weight": weight, "bias": bias}
    )
    for image, step, token in np.ndindex(2, 3, 5):
        wanted = [x[image, step, token] @ row for row in weight] + bias * alive[image, step, token]
        np.testing.assert_allclose(out["y"][image, step, token], wanted, atol=1e-12)
    np.testing.assert_array_equal(record["synops"], x.sum((2, 3)) * 6)
    np.testing.assert_array_equal(record["synops_unary"], record["synops"])
    assert not record["macs"].any()


def test_linear_counts_graded_spikes_once_and_by_value_and_currents_as_multiplications() -> None:
    x = np.random.default_rng(0).integers(0, 4, (1, 2, 5, 4)).astype(float)
    weight = {"weight": normal(2, 6, 4)}
    _, graded = stepped("Linear", {"x": x}, {"y": (5, 6)}, tensors=weight, kinds={"x": "graded"})
    np.testing.assert_array_equal(graded["synops"], (x > 0).sum((2, 3)) * 6)
    np.testing.assert_array_equal(graded["synops_unary"], x.sum((2, 3)) * 6)
    _, real = stepped("Linear", {"x": x}, {"y": (5, 6)}, tensors=weight, kinds={"x": "current"})
    np.testing.assert_array_equal(real["macs"], graded["synops"])
    assert not real["synops"].any() and not real["synops_unary"].any()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "bias", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), True, 1),
        ((2, 2), (2, 2), (1, 1), False, 3),
        ((3, 3), (2, 2), (0, 0), True, 1),
        ((1, 3), (1, 2), (0, 2), True, 3),
    ],
)
def test_convolution_is_torchs_and_counts_true_fan_out(
    kernel: Pair, stride: Pair, padding: Pair, bias: bool, groups: int
) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 3, (2, 2, 3, 5, 6)).astype(float)
    tensors = {"weight": normal(1, 6, 3 // groups, *kernel)} | ({"bias": normal(2, 6)} if bias else {})
    conv = {"kernel": kernel, "stride": stride, "padding": padding, "groups": groups}
    wanted = torch.nn.functional.conv2d(
        torch.tensor(x).flatten(0, 1), *map(torch.tensor, tensors.values()),
        stride=stride, padding=padding, groups=groups,
    )  # fmt: skip
    shape = tuple(wanted.shape[1:])
    out, record = stepped(
        "Conv2d", {"x": x}, {"y": shape}, params=conv, tensors=tensors, kinds={"x": "graded"}
    )
    np.testing.assert_allclose(out["y"].reshape(wanted.shape), wanted.numpy(), atol=1e-12)
    _, height, width = shape
    once = np.zeros((2, 2))
    by_value = np.zeros((2, 2))
    for image, step, c, i, j in np.ndindex(x.shape):
        taps = [
            (a, b)
            for a, b in product(range(height), range(width))
            if 0 <= i + padding[0] - a * stride[0] < kernel[0]
            and 0 <= j + padding[1] - b * stride[1] < kernel[1]
        ]
        once[image, step] += (x[image, step, c, i, j] > 0) * len(taps) * 6 // groups
        by_value[image, step] += x[image, step, c, i, j] * len(taps) * 6 // groups
    np.testing.assert_array_equal(record["synops"], once)
    np.testing.assert_array_equal(record["synops_unary"], by_value)
    _, real = stepped("Conv2d", {"x": x}, {"y": shape}, params=conv, tensors=tensors, kinds={"x": "current"})
    np.testing.assert_array_equal(real["macs"], once)
    assert not real["synops"].any()


# Neurons


@pytest.mark.parametrize("fire", [">", ">="])
@pytest.mark.parametrize(
    ("tau", "decay_input"), [(1.0, True), (2.0, True), (3.0, True), (2.0, False), (math.inf, False)]
)
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_lif_steps_resets_and_starts_anew_for_each_image(
    reset: str, fire: str, tau: float, decay_input: bool
) -> None:
    x = np.random.default_rng(0).choice([0.0, 0.5, 1.0, 2.0, -1.0], (3, 4, 5, 2))
    out, record = stepped(
        "LIF",
        {"x": x},
        {"s": (5, 2)},
        params={
            "tau": tau,
            "threshold": 1.0,
            "fire": fire,
            "decay_input": decay_input,
            "reset": reset,
        },
        record_spikes=True,
    )
    fired = np.zeros_like(x)
    for image, i, j in np.ndindex(3, 5, 2):
        v = 0.0
        for step in range(4):
            leak = 0.0 if tau == math.inf else v / tau
            v = v + (x[image, step, i, j] - v) / tau if decay_input else v - leak + x[image, step, i, j]
            if v > 1.0 or (fire == ">=" and v == 1.0):
                fired[image, step, i, j], v = 1.0, 0.0 if reset == "zero" else v - 1.0
    np.testing.assert_array_equal(out["s"], fired)
    np.testing.assert_array_equal(record["spikes"], fired)
    assert record["spikes"].dtype == np.uint8
    assert 0 < fired.mean() < 1
    active = ((x != 0) | (fired > 0)).sum((2, 3))
    np.testing.assert_array_equal(record["updates_active"], active)
    np.testing.assert_array_equal(record["updates_inactive"], 10 - active)
    np.testing.assert_array_equal(record["spikes_out"], fired.sum((2, 3)))
    assert not record["updates_gated"].any()


def test_lif_counts_the_neurons_of_dead_tokens_apart() -> None:
    alive = np.array([[[1.0, 0.0, 1.0]]])
    x = np.array([[[[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]])
    _, record = stepped(
        "LIF", {"x": x, "alive": alive}, {"s": (3, 2)}, params={"tau": 2.0, "threshold": 1.0, "fire": ">="}
    )
    counts = {kind: int(record[kind][0, 0]) for kind in record}
    assert counts == {"updates_active": 1, "updates_inactive": 3, "updates_gated": 2, "spikes_out": 1}


def test_max_pool_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    x = spikes(0, 2, 2, 3, 7, 6, rate=0.2)
    wanted = torch.nn.functional.max_pool2d(torch.tensor(x).flatten(0, 1), 3, 2, 1)
    out, _ = stepped(
        "SpikeMaxPool",
        {"x": x},
        {"y": tuple(wanted.shape[1:])},
        params={"kernel": 3, "stride": 2, "padding": 1},
    )
    np.testing.assert_array_equal(out["y"].reshape(wanted.shape), wanted.numpy())


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_a_pool_of_values_leaves_padding_out(dtype: type) -> None:
    torch = pytest.importorskip("torch")
    x = np.rint(100 * normal(0, 2, 2, 3, 7, 6) - 300)  # all below 0, which padding must not win against
    wanted = torch.nn.functional.max_pool2d(torch.tensor(x).flatten(0, 1), 3, 2, 1).numpy()
    shape, window = wanted.shape[1:], {"kernel": 3, "stride": 2, "padding": 1}
    out, _ = stepped("MaxPool", {"x": x.astype(dtype)}, {"y": shape}, params=window, dtype=dtype)
    np.testing.assert_array_equal(out["y"].reshape(wanted.shape), wanted)
    assert (wanted < 0).any()


@pytest.mark.parametrize("mode", ["max", "mean", "sum", "learned"])
def test_integrate_merges_the_steps_and_sends_at_the_last(mode: str) -> None:
    x, weights = normal(0, 2, 4, 3, 2, 2), normal(1, 4)
    out, _ = stepped(
        "Integrate",
        {"x": x},
        {"y": (3, 2, 2)},
        params={"mode": mode},
        tensors={"weights": weights},
        sends_last=True,
    )
    wanted = {
        "max": x.max(1),
        "mean": x.sum(1) / 4,
        "sum": x.sum(1),
        "learned": np.einsum("t,bt...->b...", weights, x),
    }
    np.testing.assert_allclose(out["y"][:, 0], wanted[mode], atol=1e-12)


# Shapes, gates, attention


def test_tokens_add_and_gates() -> None:
    x, other = normal(0, 1, 2, 3, 2, 5), normal(1, 1, 2, 3, 2, 5)
    out, _ = stepped("Tokens", {"x": x}, {"y": (10, 3)})
    for step, c, i, j in np.ndindex(x.shape[1:]):
        assert out["y"][0, step, i * 5 + j, c] == x[0, step, c, i, j]
    back, _ = stepped("Map", {"x": out["y"]}, {"y": (3, 2, 5)}, params={"height": 2, "width": 5})
    np.testing.assert_array_equal(back["y"], x)
    for values, shape, axis in ((x, (2, 2, 5), 2), (out["y"], (10, 2), 3)):
        some, _ = stepped("Slice", {"x": values}, {"y": shape}, params={"start": 1, "stop": 3})
        np.testing.assert_array_equal(some["y"], np.take(values, (1, 2), axis))
    mean, _ = stepped("TokenMean", {"x": out["y"]}, {"y": (1, 3)})
    np.testing.assert_allclose(mean["y"][:, :, 0], out["y"].sum(axis=2) / 10)
    out, _ = stepped("Add", {"a": x, "b": other}, {"y": (3, 2, 5)})
    np.testing.assert_array_equal(out["y"], x + other)
    tokens, mask, channels = spikes(2, 1, 2, 4, 3), spikes(3, 1, 2, 4), spikes(4, 1, 2, 3)
    out, record = stepped("Gate", {"x": tokens, "mask": mask}, {"y": (4, 3)}, params={"axis": "token"})
    np.testing.assert_array_equal(out["y"], np.einsum("btnd,btn->btnd", tokens, mask))
    assert not any(record[kind].any() for kind in ("synops", "synops_unary", "macs"))
    out, record = stepped("Gate", {"x": tokens, "mask": channels}, {"y": (4, 3)}, params={"axis": "channel"})
    np.testing.assert_array_equal(out["y"], np.einsum("btnd,btd->btnd", tokens, channels))
    np.testing.assert_array_equal(record["synops"], tokens.sum((2, 3)))
    wide, heads = spikes(5, 1, 2, 4, 6), spikes(6, 1, 2, 4, 2)
    out, record = stepped("Gate", {"x": wide, "mask": heads}, {"y": (4, 6)}, params={"axis": "head"})
    by_head = np.einsum("btnhd,btnh->btnhd", wide.reshape(1, 2, 4, 2, 3), heads)
    np.testing.assert_array_equal(out["y"], by_head.reshape(wide.shape))
    np.testing.assert_array_equal(record["synops"], wide.sum((2, 3)))


@settings(max_examples=15)
@given(seed=st.integers(0, 999), tokens=st.integers(1, 5), heads=st.integers(1, 3), width=st.integers(1, 3))
def test_attention_and_its_counts(seed: int, tokens: int, heads: int, width: int) -> None:
    q, k, v = (spikes(seed + i, 1, 1, tokens, heads * width, rate=0.6) for i in range(3))
    wanted = np.zeros((tokens, heads * width))
    pairs = queries = scored = once = by_value = 0.0
    for h in range(heads):
        of = slice(h * width, (h + 1) * width)
        for i, j in np.ndindex(tokens, tokens):
            score = q[0, 0, i, of] @ k[0, 0, j, of]
            wanted[i, of] += 0.125 * score * v[0, 0, j, of]
            scored += score
            once += (score > 0) * v[0, 0, j, of].sum()
            by_value += score * v[0, 0, j, of].sum()
        pairs += sum(k[0, 0, j, of].sum() * v[0, 0, j, of].sum() for j in range(tokens))
        queries += q[0, 0, :, of].sum() * width
    wanted_counts = {
        "Q(K^TV)": (pairs + queries, pairs + queries),
        "(QK^T)V": (scored + once, scored + by_value),
    }
    for form, (synops, unary) in wanted_counts.items():
        out, record = stepped(
            "SpikeMatMul",
            {"q": q, "k": k, "v": v},
            {"y": wanted.shape},
            params={"heads": heads, "scale": 0.125, "form": form},
        )
        np.testing.assert_array_equal(out["y"][0, 0], wanted)
        assert (record["synops"][0, 0], record["synops_unary"][0, 0]) == (synops, unary)


def test_masked_column_sum() -> None:
    k, v = spikes(0, 2, 3, 5, 4), spikes(1, 2, 3, 5, 4)
    out, record = stepped("MaskedColumnSum", {"k": k, "v": v}, {"y": (4,)})
    np.testing.assert_array_equal(out["y"], np.einsum("btnd,btnd->btd", k, v))
    np.testing.assert_array_equal(record["synops"], (k * v).sum((2, 3)))


@pytest.mark.parametrize("invert", [False, True])
def test_gates_of_spikes(invert: bool) -> None:
    a, b = spikes(0, 2, 3, 2, 4, 3), spikes(1, 2, 3, 2, 4, 3)
    out, record = stepped("SpikeAnd", {"a": a, "b": b}, {"y": (2, 4, 3)}, params={"invert": invert})
    np.testing.assert_array_equal(out["y"] > 0, (a > 0) & ((b > 0) != invert))
    for kind in ("synops", "synops_unary"):
        np.testing.assert_array_equal(record[kind], a.sum((2, 3, 4)))


def test_sum_of_heads() -> None:
    x = spikes(0, 2, 3, 5, 6)
    out, record = stepped("HeadSum", {"x": x}, {"y": (5, 2)}, params={"heads": 2})
    np.testing.assert_array_equal(out["y"], x.reshape(2, 3, 5, 2, 3).sum(4))
    for kind in ("synops", "synops_unary"):
        np.testing.assert_array_equal(record[kind], x.sum((2, 3)))


# Halting and readout


def test_halting_score_is_the_sigmoid_also_far_out() -> None:
    z = np.array([-2000.0, -3.0, 0.0, 0.5, 40.0, 2000.0]).reshape(1, 1, 6, 1)
    alive = np.array([[[1.0, 1.0, 0.0, 0.0, 1.0, 1.0]]])
    out, record = stepped(
        "HaltingScore", {"z": z, "alive": alive}, {"h": (6,)}, params={"alpha": 2.0, "beta": -1.0}
    )
    wanted = [0.0, 1 / (1 + np.exp(7.0)), 1 / (1 + np.e), 0.5, 1.0, 1.0]
    np.testing.assert_allclose(out["h"][0, 0], wanted, atol=1e-15)
    assert record["score_lookups"].tolist() == [[4]]


def test_tokens_of_a_group_have_the_score_of_their_sum() -> None:
    z = np.array([1.0, 2.0, -5.0, 0.5]).reshape(1, 1, 4, 1)
    params = {"alpha": 2.0, "beta": -1.0, "groups": (0, 1, 0, 1)}
    out, record = stepped("HaltingScore", {"z": z}, {"h": (4,)}, params=params)
    one, other = (1 / (1 + np.exp(1 - 2 * total)) for total in (-4.0, 2.5))
    np.testing.assert_allclose(out["h"][0, 0], [one, other, one, other], atol=1e-15)
    assert record["score_lookups"].tolist() == [[4]]


def test_an_image_is_clear_when_its_best_class_leads_in_the_mean_over_steps() -> None:
    # Means over both tokens are (1, 0), (1, 0) and (3, 0): the first class leads by 1, 2 and 5 in sum.
    z = np.array([[[[2, 0], [0, 0]], [[1, 0], [1, 0]], [[6, 0], [0, 0]]]], np.float64)
    tensors = {"weight": np.array([[1.0, 7.0], [0.0, 7.0], [-9.0, 0.0]]), "bias": np.array([0.25, 0.25, 0])}
    alive = np.array([[[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
    for margin, clear in ((0.0, [1, 1, 1]), (1.0, [1, 1, 1]), (1.5, [0, 0, 1]), (1.7, [0, 0, 0])):
        out, record = stepped(
            "ImageScore",
            {"z": z, "alive": alive},
            {"h": (2,)},
            params={"margin": margin},
            tensors=tensors,
            kinds={"z": "graded"},
        )
        assert out["h"].tolist() == [[[each] * 2 for each in clear]]
        assert record["score_lookups"].tolist() == [[2, 1, 2]]
        # Only tokens that visit are counted, each nonzero value once for each class.
        assert record["synops"].tolist() == [[3, 3, 3]] and record["synops_unary"].tolist() == [[6, 3, 18]]


@pytest.mark.parametrize("mode", ["raster", "block", "time", "rectangular", "image"])
@pytest.mark.parametrize(("last", "closes"), [(False, None), (True, None), (False, 1)])
def test_accumulation_follows_its_definition(mode: str, last: bool, closes: int | None) -> None:
    images, steps, tokens, epsilon = 2, 3, 40, 0.1
    rng = np.random.default_rng(7)
    score = rng.choice([0.1, 0.3, 0.6], (images, steps, tokens))
    alive = spikes(1, images, steps, tokens, rate=0.7)
    total = rng.choice([0.0, 0.2, 0.5], (images, steps, tokens))
    out, record = stepped(
        "HaltAccumulate",
        {"score": score, "alive": alive, "total": total},
        {port: (tokens,) for port in ("alive", "total", "p")},
        params={"mode": mode, "epsilon": epsilon, "last_block": last, "closes": closes},
    )
    for image, k in np.ndindex(images, tokens):
        column = 0.0
        for step in range(steps):
            closed = closes is not None and step >= closes
            a, h, before = alive[image, step, k], score[image, step, k], total[image, step, k]
            if mode == "rectangular":
                column += a * h
                after, p = before + column, a * h
                goes_on = a * (after < 1 - epsilon and not closed)
            else:
                forced = last and (mode == "block" or step == steps - 1) and mode != "image"
                forced |= closed
                halts = forced or before + h >= 1 - epsilon
                after, goes_on = before + a * h, a * (not halts)
                p = a * (1 - before if halts else h) / (steps if mode == "block" else 1)
                p = a if mode == "image" else p
            got = [out[port][image, step, k] for port in ("alive", "total", "p")]
            np.testing.assert_allclose(got, [goes_on, after, p], atol=1e-15)
    np.testing.assert_array_equal(record["visits"], alive > 0)


def test_accumulation_without_inputs_starts_open() -> None:
    score = np.full((1, 1, 3), 0.25)
    out, record = stepped(
        "HaltAccumulate",
        {"score": score},
        {port: (3,) for port in ("alive", "total", "p")},
        params={"mode": "block", "epsilon": 0.1, "last_block": False},
    )
    assert out["alive"].tolist() == [[[1.0] * 3]] and out["total"].tolist() == [[[0.25] * 3]]
    assert record["visits"].all()


@pytest.mark.parametrize("normalise", [False, True])
def test_mean_field_weighs_visits(normalise: bool) -> None:
    z, p = normal(0, 2, 3, 2, 4, 5), np.random.default_rng(1).random((2, 3, 2, 4))
    p[:, 1, 0, 2] = 0.0
    inputs = {f"z{b}": z[:, :, b] for b in range(2)} | {f"p{b}": p[:, :, b] for b in range(2)}
    params = {"mode": "mean-field", "blocks": 2, "normalise": normalise}
    out, record = stepped("Readout", inputs, {"y": (5,)}, params=params, sends_last=True)
    weight = p.sum((1, 2)) if normalise else np.ones((2, 4))
    tokens = np.einsum("btln,btlnd->bnd", p, z) / weight[..., None]
    np.testing.assert_allclose(out["y"][:, 0], tokens.mean(1), atol=1e-12)
    np.testing.assert_array_equal(record["readout_macs"], (p > 0).sum((2, 3)) * 5)


def test_mean_field_without_weights_is_the_mean() -> None:
    z = normal(0, 2, 3, 4, 5)
    params = {"mode": "mean-field", "blocks": 1, "normalise": False}
    out, record = stepped("Readout", {"z0": z}, {"y": (5,)}, params=params, sends_last=True)
    np.testing.assert_allclose(out["y"][:, 0], z.mean((1, 2)), atol=1e-12)
    assert not record["readout_macs"].any()


@pytest.mark.parametrize("mode", ["last-state", "rate"])
def test_readouts_of_the_last_visit(mode: str) -> None:
    images, steps, blocks, tokens = 2, 3, 2, 6
    z = normal(0, images, steps, blocks, tokens, 4)
    alive = spikes(1, images, steps, blocks, tokens, rate=0.5)
    alive[:, 0, 0] = 1.0
    inputs = {f"z{b}": z[:, :, b] for b in range(blocks)} | {
        f"alive{b}": alive[:, :, b] for b in range(blocks)
    }
    params = {"mode": mode, "blocks": blocks, "normalise": False}
    out, _ = stepped("Readout", inputs, {"y": (4,)}, params=params, sends_last=True)
    for image in range(images):
        feature = np.zeros(4)
        for k in range(tokens):
            visits = [(t, b) for t, b in np.ndindex(steps, blocks) if alive[image, t, b, k]]
            last_of_step = dict(visits)  # of each step, its last block
            chosen = [visits[-1]] if mode == "last-state" else list(last_of_step.items())
            feature += np.mean([z[image, t, b, k] for t, b in chosen], axis=0)
        np.testing.assert_allclose(out["y"][image, 0], feature / tokens, atol=1e-12)


# What all share


def test_delayed_inputs_bring_the_step_before_and_start_neutral() -> None:
    total, alive = normal(0, 3, 4, 2), spikes(1, 3, 4, 2)
    out, _ = stepped(
        "HaltAccumulate",
        {"score": np.ones_like(total), "alive": alive, "total": total},
        {port: (2,) for port in ("alive", "total", "p")},
        params={"mode": "raster", "epsilon": -100.0, "last_block": False},  # nothing halts
        arrival=DELAYED,
    )
    assert (out["alive"][:, 0] == 1.0).all() and (out["total"][:, 0] == 1.0).all()
    np.testing.assert_array_equal(out["alive"][:, 1:], alive[:, :-1])
    np.testing.assert_array_equal(out["total"][:, 1:], total[:, :-1] + alive[:, :-1])


def test_held_inputs_stay_for_the_window() -> None:
    x, mask = spikes(0, 2, 1, 4, 3), spikes(1, 2, 1, 4)
    out, _ = stepped("Gate", {"x": x, "mask": mask}, {"y": (4, 3)}, params={"axis": "token"}, arrival=HELD)
    np.testing.assert_array_equal(out["y"][:, 0], x[:, 0] * mask[:, 0, :, None])


def test_single_precision_is_single_throughout() -> None:
    x = normal(0, 1, 2, 3, 4)
    out, _ = stepped("Linear", {"x": x}, {"y": (3, 2)}, tensors={"weight": normal(1, 2, 4)}, dtype=np.float32)
    assert out["y"].dtype == np.float32
    out, _ = stepped(
        "LIF", {"x": x}, {"s": (3, 4)}, params={"tau": 2.0, "threshold": 1.0, "fire": ">"}, dtype=np.float32
    )
    assert out["s"].dtype == np.float32
