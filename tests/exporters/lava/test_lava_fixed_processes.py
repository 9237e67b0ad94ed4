"""Each Lava process with its fixed-point model alone, against formulas in Python's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.lava_support import Array, Record, stepped


def fixed(op: str, inputs: dict[str, Array], *args: Any, **options: Any) -> tuple[dict[str, Array], Record]:
    return stepped(op, inputs, *args, dtype=np.int32, **options)


def integers(seed: int, low: int, high: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True)


def shift(value: int, exponent: int) -> int:
    return value << exponent if exponent > 0 else value >> -exponent


def test_linear_shifts_every_output_by_its_exponent_and_holds_back_biases() -> None:
    x, alive = integers(0, 0, 3, 2, 3, 5, 4), integers(1, 0, 1, 2, 3, 5)
    x *= alive[..., None]
    weight, exponents, bias = (
        integers(2, -256, 255, 6, 4),
        np.array([-8, -1, 0, 1, 3, 7]),
        integers(3, -99, 99, 6),
    )
    out, record = fixed(
        "Linear",
        {"x": x, "alive": alive},
        {"y": (5, 6)},
        params={"weight_bits": 9, "bias_exp": 3},
        tensors={"weight": weight, "weight_exp": exponents, "bias": bias},
        kinds={"x": "graded"},
    )
    assert out["y"].dtype == np.int32
    for image, step, token, o in np.ndindex(2, 3, 5, 6):
        total = sum(int(a) * int(w) for a, w in zip(x[image, step, token], weight[o], strict=True))
        wanted = (shift(total, exponents[o]) << 6) + alive[image, step, token] * (int(bias[o]) << 3)
        assert out["y"][image, step, token, o] == wanted
    np.testing.assert_array_equal(record["synops"], (x > 0).sum((2, 3)) * 6)
    np.testing.assert_array_equal(record["synops_unary"], x.sum((2, 3)) * 6)
    assert not record["macs"].any()


@pytest.mark.parametrize("off_core", [False, True])
@pytest.mark.parametrize("bias_map", [(), (3, 2)])
def test_convolution_adds_a_map_of_biases_and_rounds_off_the_cores(
    off_core: bool, bias_map: tuple[int, ...]
) -> None:
    x, weight = (
        integers(0, 0, 255, 2, 1, 2, 5, 4) * integers(9, 0, 1, 2, 1, 2, 5, 4),
        integers(1, -256, 255, 3, 2, 3, 3),
    )
    exponents, bias = np.array([-6, -4, 0]), integers(2, -4095, 4095, 3, *bias_map)
    out, record = fixed(
        "Conv2d",
        {"x": x},
        {"y": (3, 3, 2)},
        params={"kernel": 3, "stride": 2, "padding": 1, "bias_exp": 5, "off_core": off_core},
        tensors={"weight": weight, "weight_exp": exponents, "bias": bias},
        kinds={"x": "graded"},
    )
    biases = np.broadcast_to(bias.reshape(3, *(bias_map or (1, 1))), (3, 3, 2))
    driven = np.zeros((2, 1), np.int64)
    by_value = np.zeros((2, 1), np.int64)
    for image, o, i, j in np.ndindex(2, 3, 3, 2):
        total = 0
        for c, a, b in np.ndindex(2, 3, 3):
            row, column = 2 * i + a - 1, 2 * j + b - 1
            if 0 <= row < 5 and 0 <= column < 4:
                pixel = int(x[image, 0, c, row, column])
                total += pixel * int(weight[o, c, a, b])
                driven[image] += pixel > 0
                by_value[image] += pixel
        y = (shift(total, exponents[o]) << 6) + (int(biases[o, i, j]) << 5)
        assert out["y"][image, 0, o, i, j] == (y // 32 * 32 if off_core else y)
    wanted = {"cpu_operations": driven} if off_core else {"synops": driven, "synops_unary": by_value}
    for kind in ("synops", "synops_unary", "macs", "cpu_operations"):
        np.testing.assert_array_equal(record[kind], wanted.get(kind, np.zeros((2, 1))))


@pytest.mark.parametrize(("reset", "fire"), [("zero", ">"), ("subtract", ">"), ("subtract", ">=")])
@pytest.mark.parametrize("dv", [0, 1, 2048, 4095])
def test_lif_decays_towards_zero_and_fires_above_its_threshold(dv: int, reset: str, fire: str) -> None:
    x = integers(0, -900, 1000, 3, 6, 7, 3)
    x[:, :, 0] = 64 * 10  # meets the threshold exactly
    params = {"fire": fire, "dv": dv, "vth": 10, "reset": reset}
    left = {"zero": 0, "subtract": 1}[reset]
    out, record = fixed("LIF", {"x": x}, {"s": (7, 3)}, params=params, record_spikes=True, record_states=True)
    for image, i, j in np.ndindex(3, 7, 3):
        v = 0
        for step in range(6):
            sign = -1 if v < 0 else 1
            v = sign * ((abs(v) * (4096 - dv)) // 4096) + int(x[image, step, i, j])
            fires = v > 640
            v = left * (v - (640 if fire == ">" else 704)) if fires else v
            assert out["s"][image, step, i, j] == record["spikes"][image, step, i, j] == fires
            assert record["states"][image, step, i, j] == v
    assert record["states"].dtype == np.int32
    assert (record["states"] < 0).any() and out["s"].any()
    assert not out["s"][:, 0, 0].any()


@pytest.mark.parametrize("mode", ["max", "mean", "sum", "learned"])
def test_integrate_sums_and_shifts_only_what_was_learned(mode: str) -> None:
    x, weights = integers(0, -9, 9, 2, 4, 3, 2, 2), np.array([-250, 3, 100, 77])
    params = {"mode": mode, "shift": 3}
    out, _ = fixed(
        "Integrate", {"x": x}, {"y": (3, 2, 2)}, params=params, tensors={"weights": weights}, sends_last=True
    )
    learned = np.einsum("t,bt...->b...", weights, x) // 8
    wanted = {"max": x.max(1), "mean": x.sum(1), "sum": x.sum(1), "learned": learned}
    np.testing.assert_array_equal(out["y"][:, 0], wanted[mode])


def test_sums_and_products_are_aligned() -> None:
    a, b = integers(0, -5, 5, 1, 2, 3, 4), integers(1, -5, 5, 1, 2, 3, 4)
    out, _ = fixed("Add", {"a": a, "b": b}, {"y": (3, 4)}, params={"a_weight": 7, "b_weight": 3})
    np.testing.assert_array_equal(out["y"], 7 * a + 3 * b)
    q, k, v = (integers(seed, 0, 1, 1, 2, 5, 6) for seed in range(3))
    heads = [x.reshape(2, 5, 2, 3) for x in (q, k, v)]
    wanted = np.einsum("tnhd,tmhd,tmhe->tnhe", *heads).reshape(1, 2, 5, 6) * 2**9
    for form in ("Q(K^TV)", "(QK^T)V"):
        params = {"heads": 2, "form": form, "exponent": 3}
        out, _ = fixed("SpikeMatMul", {"q": q, "k": k, "v": v}, {"y": (5, 6)}, params=params)
        np.testing.assert_array_equal(out["y"], wanted)
    out, record = fixed("MaskedColumnSum", {"k": k, "v": v}, {"y": (6,)}, params={"exponent": 2})
    np.testing.assert_array_equal(out["y"], (k * v).sum(2) * 2**8)
    np.testing.assert_array_equal(record["synops"], (k * v).sum((2, 3)))
    out, _ = fixed("HeadSum", {"x": q}, {"y": (5, 2)}, params={"heads": 2, "exponent": 1})
    np.testing.assert_array_equal(out["y"], q.reshape(1, 2, 5, 2, 3).sum(4) * 2**7)


def test_halting_score_is_looked_up_and_saturates() -> None:
    z = np.array([-(2**20), -49, -48, -1, 0, 15, 16, 31, 32, 2**20]).reshape(1, 1, 10, 1)
    params = {"shift": 4, "low": -3, "entries": 5}
    table = np.array([1, 20, 300, 1000, 4000])
    out, record = fixed("HaltingScore", {"z": z}, {"h": (10,)}, params=params, tensors={"table": table})
    assert out["h"][0, 0].tolist() == [1, 1, 1, 300, 1000, 1000, 4000, 4000, 4000, 4000]
    assert record["score_lookups"].tolist() == [[10]]


def test_an_image_is_clear_by_integers() -> None:
    # z' is 2 and -2 (clipped), then 3 >> 1 = 1 and 0: sums over tokens are 0 and 1.
    z = np.array([[[[9], [-9]], [[3], [0]]]])
    params = {"z_shift": 1, "z_limit": 2, "shift": 1, "bias_exp": 2, "score_bits": 3}
    tensors = {"weight": np.array([[7], [-7]]), "bias": np.array([1, 0])}
    # First 4 and 0; then 7 >> 1 = 3 and -7 >> 1 = -4 are added, with the bias: 11 and -4.
    for threshold, clear in ((4, [8, 8]), (5, [0, 8]), (7, [0, 8]), (8, [0, 0])):
        out, _ = fixed(
            "ImageScore", {"z": z}, {"h": (2,)}, params=params | {"threshold": threshold}, tensors=tensors
        )
        assert out["h"].tolist() == [[[each] * 2 for each in clear]]


@pytest.mark.parametrize("mode", ["raster", "block", "time", "rectangular", "image"])
@pytest.mark.parametrize(("last", "closes"), [(False, None), (True, None), (False, 1)])
def test_accumulation_in_integers(mode: str, last: bool, closes: int | None) -> None:
    images, steps, tokens = 2, 3, 40
    score = np.random.default_rng(7).choice([5, 40, 100], (images, steps, tokens))
    alive = integers(1, 0, 1, images, steps, tokens)
    total = np.random.default_rng(8).choice([0, 60, 120, 155], (images, steps, tokens))
    out, record = fixed(
        "HaltAccumulate",
        {"score": score, "alive": alive, "total": total},
        {port: (tokens,) for port in ("alive", "total", "p")},
        params={"mode": mode, "score_bits": 8, "limit": 160, "last_block": last, "closes": closes},
        record_states=True,
    )
    for image, token in np.ndindex(images, tokens):
        column = 0
        for step in range(steps):
            closed = closes is not None and step >= closes
            a, h, before = (int(x[image, step, token]) for x in (alive, score, total))
            if mode == "rectangular":
                column += a * h
                wanted = [a * (before + column < 160 and not closed), before + column, a * h]
            else:
                forced = last and (mode == "block" or step == steps - 1) and mode != "image"
                forced |= closed
                halts = before + h >= 160 or forced
                p = 256 if mode == "image" else 256 - before if halts else h
                wanted = [a * (not halts), before + a * h, a * p]
            assert [out[port][image, step, token] for port in ("alive", "total", "p")] == wanted
    np.testing.assert_array_equal(record["states"], out["total"])
    np.testing.assert_array_equal(record["visits"], alive > 0)


@pytest.mark.parametrize(
    ("mode", "normalise"),
    [("mean-field", False), ("mean-field", True), ("last-state", False), ("rate", False)],
)
def test_readout_sums_clips_and_divides_towards_zero(mode: str, normalise: bool) -> None:
    images, steps, blocks, tokens, dim = 2, 3, 2, 6, 4
    z = integers(0, -100, 100, images, steps, blocks, tokens, dim)
    p = integers(1, 0, 50, images, steps, blocks, tokens)
    p[:, :, :, 0] = 0  # of no weight at all: divided by 1
    alive = integers(2, 0, 1, images, steps, blocks, tokens)
    alive[:, 0, 0] = 1
    inputs = {f"z{b}": z[:, :, b] for b in range(blocks)}
    weighs = mode == "mean-field"
    inputs |= {f"p{b}" if weighs else f"alive{b}": (p if weighs else alive)[:, :, b] for b in range(blocks)}
    params = {"mode": mode, "blocks": blocks, "normalise": normalise}
    params |= {"z_shift": 2, "z_limit": 11, "divide_bits": 5, "y_shift": 3}
    out, record = fixed("Readout", inputs, {"y": (dim,)}, params=params, sends_last=True)
    for image, d in np.ndindex(images, dim):
        feature = 0
        for k in range(tokens):
            value = {
                (t, b): max(-11, min(11, int(z[image, t, b, k, d]) >> 2))
                for t, b in np.ndindex(steps, blocks)
            }
            visits = [visit for visit in value if alive[(image, *visit, k)]]
            chosen = {t: (t, b) for t, b in visits} if mode == "rate" else {0: visits[-1]}
            total = sum(value[visit] for visit in chosen.values())
            weight = len(chosen)
            if weighs:
                total = sum(int(p[(image, *visit, k)]) * value[visit] for visit in value)
                weight = max(1, int(p[image, :, :, k].sum()))
            if normalise or mode == "rate":
                total = (1 if total >= 0 else -1) * ((abs(total) << 5) // weight)
            feature += total
        assert out["y"][image, 0, d] == feature >> 3
    divides = normalise or mode == "rate"
    np.testing.assert_array_equal(record["cpu_operations"], [[0, 0, divides * tokens * dim]] * images)
    np.testing.assert_array_equal(record["readout_macs"], weighs * (p > 0).sum((2, 3)) * dim)
