"""Neurons and the normalisation over live tokens against loops written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stas_neuro.models.lif import LIF, SURROGATE_SLOPE, TokenBatchNorm

# LIF ----------------------------------------------------------------------------------------------------


def literal_lif(x: np.ndarray, threshold: float, fire: str) -> np.ndarray:
    """Spikes of one neuron, step by step."""
    v = x.dtype.type(0)
    spikes = np.zeros_like(x)
    for t, current in enumerate(x):
        v = v + (current - v) / 2
        if v > threshold or (fire == ">=" and v == threshold):
            spikes[t] = 1
            v = x.dtype.type(0)
    return spikes


@settings(max_examples=200)
@given(
    st.lists(st.integers(-24, 40), min_size=1, max_size=8),
    st.sampled_from([0.5, 1.0, 0.75, 1.25]),
    st.sampled_from([">", ">="]),
    st.sampled_from([np.float32, np.float64]),
)
def test_lif_is_the_literal_loop(eighths: list[int], threshold: float, fire: str, dtype: type[np.floating]):
    """Inputs are eighths, so that membranes meet thresholds exactly."""
    x = np.array(eighths, dtype) / dtype(8)
    spikes, _ = LIF(threshold, fire)(torch.from_numpy(x))
    assert spikes.dtype == torch.from_numpy(x).dtype
    np.testing.assert_array_equal(spikes.numpy(), literal_lif(x, threshold, fire))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.75])
def test_what_fires_at_the_threshold_and_beside_it(dtype: torch.dtype, threshold: float):
    at = torch.tensor(threshold, dtype=dtype)
    below, above = (torch.nextafter(at, torch.tensor(end, dtype=dtype)) for end in (0.0, 2.0))
    x = 2 * torch.stack([below, at, above]).unsqueeze(0)  # a first step from rest halves it, exactly
    assert LIF(threshold, ">")(x)[0][0].tolist() == [0, 0, 1]
    assert LIF(threshold, ">=")(x)[0][0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("x", "code"),
    [(3.0, "1111"), (2.01, "1111"), (1.99, "0101"), (1.34, "0101"), (1.33, "0010"), (1.15, "0010"),
     (1.14, "0001"), (1.07, "0001"), (1.06, "0000"), (0.0, "0000"), (-1.0, "0000")],
)  # fmt: skip
def test_constant_inputs_give_rate_and_latency_codes(x: float, code: str):
    """x >= 2 fires at each of 4 steps, from 4/3 at every second, from 8/7 at the third, from 16/15 last."""
    for fire in (">", ">="):
        spikes, _ = LIF(1.0, fire)(torch.full((4, 1), x))
        assert "".join(str(int(s)) for s in spikes[:, 0]) == code
    assert LIF(1.0, ">=")(torch.full((4, 1), 2.0))[0].sum() == 4
    assert LIF(1.0, ">")(torch.full((4, 1), 2.0))[0].sum() == 2


def test_membrane_is_carried():
    x = torch.randn(6, 5, dtype=torch.float64) * 2
    lif = LIF(1.0, ">")
    whole, end = lif(x)
    first, v = lif(x[:2])
    second, v = lif(x[2:], v)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(v, end)


def test_the_gradient_does_not_flow_through_the_reset():
    """Against the chain rule written out: dv/dx = 1/2 along the membrane, cut where a spike reset it."""
    x = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    x.requires_grad_()
    spikes, _ = LIF(1.0, ">")(x.unsqueeze(1))
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (spikes[:, 0] * weights).sum().backward()
    assert 0 < spikes.sum() < 6
    expected = np.zeros(6)
    v, dv = 0.0, np.zeros(6)  # dv: derivative of the membrane to each input
    for t, current in enumerate(x.detach().numpy()):
        v, dv = v / 2 + current / 2, dv / 2
        dv[t] += 0.5
        expected += float(weights[t]) * (1 - np.tanh(SURROGATE_SLOPE * (v - 1)) ** 2) * dv
        if v > 1:
            v, dv = 0.0, np.zeros(6)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-12)


# Normalisation over live tokens -------------------------------------------------------------------------


def trained_norm(x: Tensor, live: Tensor) -> TokenBatchNorm:
    norm = TokenBatchNorm(x.shape[-1]).double().train()
    norm(x, live)
    norm(2 * x, live)
    norm.commit()
    return norm


def test_dead_tokens_do_not_move_the_statistics():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    live = (torch.rand(3, 5) < 0.6).double()
    assert 0 < live.sum() < 15
    disturbed = torch.where(live.bool().unsqueeze(-1), x, 1e3 * torch.randn_like(x))
    one, other = trained_norm(x, live), trained_norm(disturbed, live)
    assert torch.equal(one.running_mean, other.running_mean)
    assert torch.equal(one.running_var, other.running_var)
    # Their own values, over both visits, by numpy.
    rows = x[live.bool()].numpy()
    rows = np.concatenate([rows, 2 * rows])
    np.testing.assert_allclose(one.running_mean, 0.1 * rows.mean(0))
    np.testing.assert_allclose(one.running_var, 0.9 + 0.1 * rows.var(0))


def test_normalisation_silences_dead_tokens_and_uses_running_statistics():
    norm = TokenBatchNorm(2).double().train()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
        norm.running_mean.copy_(torch.tensor([0.5, 0.0]))
    x = torch.ones(1, 2, 2, dtype=torch.float64)
    y = norm(x, torch.tensor([[1.0, 0.0]]).double())
    assert y[0, 1].tolist() == [0, 0]
    np.testing.assert_allclose(y[0, 0].detach(), [0.5 / np.sqrt(1 + 1e-5) + 1, 1 / np.sqrt(1 + 1e-5) - 1])
    before = norm.running_mean.clone()
    norm.eval()(x, torch.ones(1, 2).double())
    norm.commit()  # what training gathered; evaluation gathers nothing
    assert not torch.equal(norm.running_mean, before)
    before = norm.running_mean.clone()
    norm.commit()
    assert torch.equal(norm.running_mean, before)


def test_normalisation_without_halting_is_torchs():
    x = torch.randn(3, 5, 4)
    ours, theirs = TokenBatchNorm(4).train(), nn.BatchNorm1d(4).train()
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).unflatten(0, (3, 5)))
    assert torch.equal(ours.running_var, theirs.running_var)
    no_live = trained_norm(x.double(), torch.zeros(3, 5).double())
    assert torch.isfinite(no_live.running_mean).all()
