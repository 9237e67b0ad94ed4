"""Our fixed-point synapses and neurons compute what Lava's own do, overflows included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import ROOT
from support.stock_lava import Array, Neurons, States, our_conv, our_linear, stock_conv, stock_dense

STEPS = 7
LIMIT = 2**23
MESSAGES = {0: 1, 8: 255, 12: 2**12 - 1, 20: 2**20 - 1}
"""Largest message by the number of its bits; 0 is a plain spike."""


@st.composite
def neurons(draw: st.DrawFn, features: tuple[int, ...]) -> Neurons:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return Neurons(
        dv=draw(st.sampled_from((0, 1, 2048, 4095)) | st.integers(0, 4095)),
        vth=draw(st.sampled_from((0, 1, 2**17 - 1)) | st.integers(0, 2**17 - 1) | st.integers(1, 500)),
        bias=rng.integers(-(2**12), 2**12, features) * draw(st.integers(0, 1)),
        bias_exp=draw(st.integers(0, 7)),
    )


def messages(seed: int, bits: int, *shape: int) -> Array:
    """Messages (STEPS, *shape), half of them 0; with a sign where they are graded."""
    rng = np.random.default_rng(seed)
    most = MESSAGES[bits]
    values = rng.integers(-most if bits else 0, most, (STEPS, *shape), endpoint=True)
    return values * rng.integers(0, 2, values.shape)


def assert_same(ours: States, stock: States) -> None:
    np.testing.assert_array_equal(ours.v, stock.v)
    np.testing.assert_array_equal(ours.s, stock.s)


@settings(max_examples=150)
@given(st.data())
def test_linear_and_lif_are_lavas_dense_and_lif(data: st.DataObject) -> None:
    inputs, outputs = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    seed, bits = data.draw(st.integers(0, 9999)), data.draw(st.sampled_from(list(MESSAGES)))
    # Beyond what 8 bits hold: both clip and cut off what `weight_bits` have no room for.
    weight = np.random.default_rng(seed).integers(-300, 301, (outputs, inputs))
    after = data.draw(neurons((outputs,)))
    x = messages(seed, bits, inputs)
    options = {"weight_exp": data.draw(st.integers(-8, 7)), "weight_bits": data.draw(st.integers(1, 8))}
    assert_same(
        our_linear(x, weight, after, **options), stock_dense(x, weight, after, message_bits=bits, **options)
    )


@settings(max_examples=100)
@given(st.data())
def test_conv_and_lif_are_lavas_conv_and_lif(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    seed, bits = data.draw(st.integers(0, 9999)), data.draw(st.sampled_from((0, 8, 12)))
    into, out, groups = (data.draw(st.integers(1, 3)) for _ in range(3))
    weight = np.random.default_rng(seed).integers(-300, 301, (groups * out, into, *kernel))
    after = data.draw(neurons((groups * out,)))
    x = messages(seed, bits, groups * into, *data.draw(st.tuples(st.integers(3, 6), st.integers(3, 6))))
    stride = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = data.draw(st.tuples(*(st.integers(0, side - 1) for side in kernel)))
    options: Any = {"stride": stride, "padding": padding, "groups": groups}
    assert_same(
        our_conv(x, weight, after, **options), stock_conv(x, weight, after, message_bits=bits, **options)
    )


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mantissas_of_one_sign_need_no_sign_mode(sign: int, bits: int) -> None:
    # Where Lava finds weights of one sign it has a bit more for them, which what Quantise makes does not use;
    # but of weights that are all negative it clips -256: such a layer has to say that its weights are signed.
    step = 2 ** (9 - bits)
    weight = np.random.default_rng(bits).integers(-256 // step, 256 // step, (6, 9)) * step
    weight = {-1: -np.abs(weight).clip(0, 255 // step * step), 0: weight, 1: np.abs(weight) % 256}[sign]
    after = Neurons(dv=2048, vth=200, bias=np.arange(-3, 3), bias_exp=3)
    x = messages(1, 8, 9)
    stock = stock_dense(x, weight, after, weight_exp=0, weight_bits=bits, message_bits=8, sign_mode=None)
    assert_same(our_linear(x, weight, after, weight_exp=0, weight_bits=bits), stock)


def test_the_comparison_reaches_every_overflow_of_dense() -> None:
    """The cases above would prove nothing at the edges if no current wrapped and no membrane was clipped."""
    after = Neurons(dv=1000, vth=2**17 - 1, bias=np.zeros(8, np.int64), bias_exp=0)
    x, weight = messages(0, 20, 12), np.random.default_rng(0).integers(-256, 256, (8, 12)) & -2
    exact = np.einsum("ti,oi->to", x[:-1], weight) << 13
    assert (np.abs(exact) >= 2**31).any(), "no current leaves 32 bits"
    stock = stock_dense(x, weight, after, weight_exp=7, message_bits=20)
    assert_same(our_linear(x, weight, after, weight_exp=7), stock)
    assert (np.abs(stock.u) > LIMIT).any(), "no current is left beyond 24 bits"
    assert (np.abs(stock.v) == LIMIT - 1).any(), "no membrane is clipped"
    assert stock.s.any() and not stock.s.all()


def test_the_comparison_reaches_every_overflow_of_conv() -> None:
    after = Neurons(dv=1000, vth=2**17 - 1, bias=np.zeros(8, np.int64), bias_exp=0)
    x, weight = messages(0, 12, 3, 1, 1), np.random.default_rng(0).integers(-(2**12), 2**12, (8, 3, 1, 1))
    sums = np.einsum("tixy,oiab->toxy", x[:-1], weight)
    assert (np.abs(sums) > LIMIT).any(), "no sum wraps at 24 bits"
    stock = stock_conv(x, weight, after, stride=(1, 1), padding=(0, 0), message_bits=12)
    assert_same(our_conv(x, weight, after, stride=(1, 1), padding=(0, 0)), stock)
    assert (np.abs(stock.u) > LIMIT).any() and (np.abs(stock.v) == LIMIT - 1).any()
    assert stock.s.any() and not stock.s.all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("units", [-1, 0, 1])
@pytest.mark.parametrize("edge", [LIMIT, 2 * LIMIT, 3 * LIMIT, 2**31])
def test_each_edge_alone(edge: int, units: int, sign: int) -> None:
    """At, below and above the currents that wrap once, that stay beyond 24 bits, and that leave 32."""
    after = Neurons(dv=0, vth=2**17 - 1, bias=np.zeros(1, np.int64), bias_exp=0)
    x = np.full((STEPS, 1), sign * ((edge >> 6) + units))
    weight = np.array([[2]])  # and an exponent that halves it
    stock = stock_dense(x, weight, after, weight_exp=-1, message_bits=24)
    assert_same(our_linear(x, weight, after, weight_exp=-1), stock)
    current = sign * (edge + 64 * units)
    assert (stock.u[1:] == current).all() == (-LIMIT < current <= LIMIT)


MULTIPROCESS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from support.stock_lava import Neurons, Dense, SignMode, neurons_of
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer

x, weight = np.load(sys.argv[2]).values()
dense = Dense(weights=weight, weight_exp=7, num_message_bits=20, sign_mode=SignMode.MIXED)
lif = neurons_of(dense, Neurons(dv=1000, vth=2**17 - 1, bias=0, bias_exp=0), np.arange(len(weight)))
source = RingBuffer(data=x.T)
source.s_out.connect(dense.s_in)
states = []
for _ in x:
    lif.run(condition=RunSteps(num_steps=1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    states.append(lif.v.get())
np.save(sys.argv[3], states)
lif.stop()
"""


@pytest.mark.slow
def test_lavas_processes_are_the_same_in_their_own_runtime(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, weight = messages(0, 20, 12), rng.integers(-300, 301, (8, 12))
    np.savez(tmp_path / "case.npz", x=x, weight=weight)
    command = [
        sys.executable,
        "-c",
        MULTIPROCESS,
        ROOT / "tests",
        tmp_path / "case.npz",
        tmp_path / "v.npy",
    ]
    subprocess.run([str(part) for part in command], check=True, timeout=60, capture_output=True)
    after = Neurons(dv=1000, vth=2**17 - 1, bias=np.arange(8), bias_exp=0)
    stock = stock_dense(x, weight, after, weight_exp=7, message_bits=20)
    np.testing.assert_array_equal(stock.v, np.load(tmp_path / "v.npy"))
    assert_same(our_linear(x, weight, after, weight_exp=7), stock)
