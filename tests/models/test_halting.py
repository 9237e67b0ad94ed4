"""Halting and readout against loops written from the method's description, one token and visit at a time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.random_models import images_for, random_config, random_model
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.frontend.torch_model import lower
from stas_neuro.ir import POLICIES
from stas_neuro.models.block import Visit
from stas_neuro.models.config import ACCUMULATIONS, READOUTS, STEMS, StasConfig
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import Output, StasModel
from stas_neuro.passes import FoldBatchNorm
from stas_neuro.reference import run_reference

HALTING = tuple(name for name, policy in POLICIES.items() if not policy.by_image)
"""Policies by which each token halts by its own scores."""
Array = NDArray[np.float64]


# The oracle ---------------------------------------------------------------------------------------------


@dataclass
class Token:
    """What becomes of one token: visits (t, l) from 0 in order, their weights, and what ponder adds."""

    visited: list[tuple[int, int]] = field(default_factory=list)
    weights: dict[tuple[int, int], float] = field(default_factory=dict)
    remainder: float = 0.0

    @property
    def ponder(self) -> float:
        return len(self.visited) + self.remainder


def raster(h: Array, epsilon: float, *, share: float = 1.0) -> Token:
    """Visits in t-major order; the first that brings the sum to 1 - epsilon, or the last, takes the rest."""
    token = Token()
    steps, depth = h.shape
    before = 0.0
    for visit in itertools.product(range(steps), range(depth)):
        token.visited.append(visit)
        if before + h[visit] >= 1 - epsilon or visit == (steps - 1, depth - 1):
            token.remainder = 1 - before
            token.weights[visit] = token.remainder * share
            return token
        token.weights[visit] = h[visit] * share
        before += h[visit]
    raise AssertionError("the last visit always halts")


def block(h: Array, epsilon: float) -> Token:
    """Raster within each step, starting anew; weights are divided by the number of steps."""
    token = Token()
    for t in range(len(h)):
        of_step = raster(h[t : t + 1], epsilon, share=1 / len(h))
        token.visited += [(t, l) for _, l in of_step.visited]
        token.weights |= {(t, l): weight for (_, l), weight in of_step.weights.items()}
        token.remainder += of_step.remainder
    return token


def time(h: Array, epsilon: float) -> Token:
    """Raster over steps by the last block's scores, the only ones that weigh; whole steps are visited."""
    of_steps = raster(h[:, -1:], epsilon)
    token = Token(remainder=of_steps.remainder)
    for t, _ in of_steps.visited:
        token.visited += [(t, l) for l in range(h.shape[1])]
        token.weights[t, h.shape[1] - 1] = of_steps.weights[t, 0]
    return token


def rectangular(h: Array, epsilon: float, deep: list[int] | None = None) -> Token:
    """Enter (t, l) while the scores of visits at earlier or equal steps and lower blocks leave room.

    `deep` has the number of blocks that are open in each step, at most all of them.
    """
    steps, depth = h.shape
    deep = [depth] * steps if deep is None else deep
    token = Token()

    def accumulated(l: int, t: int) -> float:  # over the blocks below l and the steps up to t
        return sum(h[visit] for visit in token.visited if visit[0] <= t and visit[1] < l)

    for t in range(steps):
        last = 0
        for l in range(min(depth, deep[t])):
            if accumulated(l, t) < 1 - epsilon:
                token.visited.append((t, l))
                last = l
        token.remainder += (1 - accumulated(last, t)) / steps
    total = sum(h[visit] for visit in token.visited)
    token.weights = {visit: h[visit] / total for visit in token.visited}
    return token


def off(h: Array, epsilon: float) -> Token:
    """Everything is visited; the last block of each step weighs alike."""
    steps, depth = h.shape
    visits = list(itertools.product(range(steps), range(depth)))
    return Token(visits, {(t, depth - 1): 1 / steps for t in range(steps)})


def capped(accumulate: str, h: Array, epsilon: float, most: int) -> Token:
    """Of a token that may make `most` visits: it halts where it has made these, if not before."""
    steps, depth = h.shape
    if accumulate == "raster":  # a single step that ends with its last visit
        visits = list(itertools.product(range(steps), range(depth)))
        row = raster(h.reshape(1, -1)[:, :most], epsilon)
        places = {(0, number): visit for number, visit in enumerate(visits)}
        weights = {places[at]: weight for at, weight in row.weights.items()}
        return Token([places[at] for at in row.visited], weights, row.remainder)
    if accumulate == "time":  # tokens halt between steps
        return time(h[: most // depth], epsilon)
    # The visits are dealt out to the steps, one after another.
    deep = [sum(1 for visit in range(most) if visit % steps == t) for t in range(steps)]
    if accumulate == "block":
        token = Token()
        for t, blocks in enumerate(deep):
            of_step = raster(h[t : t + 1, :blocks], epsilon, share=1 / steps)
            token.visited += [(t, l) for _, l in of_step.visited]
            token.weights |= {(t, l): weight for (_, l), weight in of_step.weights.items()}
            token.remainder += of_step.remainder
        return token
    assert accumulate == "rectangular"
    return rectangular(h, epsilon, deep)


ORACLES = {"raster": raster, "rectangular": rectangular, "block": block, "time": time, "off": off}
assert ORACLES.keys() | {"image"} == set(ACCUMULATIONS), "image decides by images: its oracle is below"


def feature(token: Token, z: Array, readout: str) -> Array:
    """What the head sees of a token whose visits give z (T, L, D)."""
    if readout == "mean-field":
        return sum((weight * z[visit] for visit, weight in token.weights.items()), np.zeros(z.shape[2]))
    if readout == "last-state":
        return z[token.visited[-1]]
    last_of_step = dict(token.visited)  # t to the last l visited at t
    return np.mean([z[t, l] for t, l in last_of_step.items()], axis=0)


# The model with prescribed block outputs ----------------------------------------------------------------


class Prescribed(nn.Module):
    """In place of a block: gives out what it is told, (T, B, N, D), for live tokens."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z, self.step = z, 0

    def forward(self, x: Tensor, visit: Visit) -> Tensor:
        if x.shape[0] > 1 or (visit.live is None and visit.packing is None):
            return self.z  # halting off: all steps at once
        z = self.z[self.step : self.step + 1]
        self.step += 1
        if visit.packing is not None:
            return z.flatten(1, 2)[:, visit.packing.rows]
        assert visit.live is not None
        return z * visit.live.unsqueeze(-1)


def run(config: StasConfig, z: Array, skip: bool = False) -> Output:
    """A model whose blocks give z (B, T, L, N, D) and whose head shows the feature it sees."""
    torch.manual_seed(0)
    batch, steps, depth, tokens, dim = z.shape
    config = config.replace(
        time_steps=steps, depth=depth, dim=dim, num_classes=dim, image_size=tokens, patch_size=1
    )
    model = StasModel(config).double().eval()
    model.stem.forward = lambda images: torch.zeros(1, batch, tokens, dim).double()  # type: ignore[method-assign]
    by_block = torch.from_numpy(z).permute(2, 1, 0, 3, 4).contiguous()
    model.blocks = nn.ModuleList(Prescribed(of_block) for of_block in by_block)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(dim))
        model.head.bias.zero_()
        return model(torch.zeros(batch, 1, 1, 1).double(), skip=skip)


def outputs(scores: Array, seed: int, dim: int = 8) -> Array:
    """Block outputs (1, T, L, N, D) whose scores under alpha 1 and beta 0 are sigmoid(scores)."""
    z = np.random.default_rng(seed).normal(size=(*scores.shape, dim))
    z[..., 0] = scores
    return z[None]


@st.composite
def scored(draw: st.DrawFn) -> tuple[Array, float, int]:
    """Score logits (T, L, N), epsilon and a seed."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)))
    count = math.prod(shape)
    logits = st.one_of(st.floats(-4, 3), st.sampled_from([-40.0, 0.0, 30.0]))
    scores = np.array(draw(st.lists(logits, min_size=count, max_size=count))).reshape(shape)
    return scores, draw(st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9])), draw(st.integers(0, 99))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("accumulate", ORACLES)
@settings(max_examples=10)
@given(scored())
def test_visits_ponder_and_feature(
    accumulate: str, readout: str, skip: bool, drawn: tuple[Array, float, int]
):
    scores, epsilon, seed = drawn
    z = outputs(scores, seed)
    h = torch.sigmoid(torch.from_numpy(scores)).numpy()
    config = StasConfig(accumulate=accumulate, readout=readout, epsilon=epsilon, alpha=1.0, beta=0.0)
    output = run(config, z, skip)
    tokens = [ORACLES[accumulate](h[:, :, k], epsilon) for k in range(scores.shape[2])]
    for k, token in enumerate(tokens):
        visited = {(int(t), int(l)) for t, l in torch.nonzero(output.visits[0, :, :, k])}
        assert visited == set(token.visited)
    expected = np.mean([feature(token, z[0, :, :, k], readout) for k, token in enumerate(tokens)], axis=0)
    np.testing.assert_allclose(output.logits[0].numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(float(output.ponder), np.mean([token.ponder for token in tokens]), atol=1e-12)
    share = np.mean([len(token.visited) for token in tokens]) / math.prod(scores.shape[:2])
    assert output.token_ratio == pytest.approx(share)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("accumulate", HALTING)
@settings(max_examples=15)
@given(scored(), st.integers(0, 8))
def test_a_token_halts_after_as_many_visits_as_it_may_make(
    accumulate: str, readout: str, skip: bool, drawn: tuple[Array, float, int], spare: int
):
    scores, epsilon, seed = drawn
    steps, depth, count = scores.shape
    z, h = outputs(scores, seed), torch.sigmoid(torch.from_numpy(scores)).numpy()
    most = min(POLICIES[accumulate].fewest_visits(depth, steps) + spare, steps * depth)
    config = StasConfig(accumulate=accumulate, readout=readout, epsilon=epsilon, alpha=1.0, beta=0.0)
    output = run(config.replace(time_steps=steps, depth=depth, max_visits=most), z, skip)
    tokens = [capped(accumulate, h[:, :, k], epsilon, most) for k in range(count)]
    assert output.visits.flatten(1, 2).sum(1).max() <= most
    for k, token in enumerate(tokens):
        visited = {(int(t), int(l)) for t, l in torch.nonzero(output.visits[0, :, :, k])}
        assert visited == set(token.visited)
    expected = np.mean([feature(token, z[0, :, :, k], readout) for k, token in enumerate(tokens)], axis=0)
    np.testing.assert_allclose(output.logits[0].numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(float(output.ponder), np.mean([token.ponder for token in tokens]), atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_an_image_stops_after_as_many_visits_as_it_may_make(training: bool):
    """Visits of all blocks in 2 of 4 steps are 6; the image stops there if it has not before."""
    config = random_config({"accumulate": "image", "readout": "rate"}, 3).replace(
        time_steps=4, depth=3, margin=1e9, max_visits=8
    )
    model = random_model(config, 3)
    images = torch.from_numpy(images_for(config, 3, 3))
    model.training = training  # only how exits are computed
    with torch.no_grad():
        output = model(images)
        assert output.visits[:, :2].all() and not output.visits[:, 2:].any()
        assert float(output.ponder) == 6
        two = StasModel(config.replace(time_steps=2, accumulate="off", max_visits=0)).double().eval()
        two.load_state_dict(model.state_dict())
        torch.testing.assert_close(output.logits, two(images).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("accumulate", POLICIES)
def test_a_cap_below_the_visits_that_every_token_makes_is_refused(accumulate: str):
    fewest = {"raster": 1, "rectangular": 4, "block": 4, "time": 3, "image": 3}[accumulate]
    config = StasConfig(accumulate=accumulate, time_steps=4, depth=3, max_visits=fewest)
    assert config.replace(accumulate="off", max_visits=1).closes(0) is None
    assert {config.replace(max_visits=each).closes(2) for each in (0, 12, 99)} == {None}
    if fewest > 1:
        with pytest.raises(InputError, match=f"max_visits={fewest - 1} is below the {fewest} visits"):
            config.replace(max_visits=fewest - 1)
    with pytest.raises(InputError, match="max_visits=-1 is not a whole number"):
        config.replace(max_visits=-1)


@pytest.mark.parametrize("accumulate", POLICIES)
@pytest.mark.parametrize("most", range(4, 13))
def test_the_first_steps_of_a_capped_model_keep_their_cap(accumulate: str, most: int):
    config = StasConfig(accumulate=accumulate, time_steps=4, depth=3, max_visits=most)
    for kept in range(1, 5):
        cut = config.with_steps(kept)
        for block in POLICIES[accumulate].scored_blocks(3):
            closed, whole = cut.closes(block), config.closes(block)
            # Behind the last block of the last step every token halts anyway.
            last = [(kept - 1, 2)] if POLICIES[accumulate].carried else [(t, 2) for t in range(kept)]
            for t in range(kept):
                if (t, block) not in last:
                    assert (closed is not None and t >= closed) == (whole is not None and t >= whole)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
@settings(max_examples=10)
@given(scored(), st.sampled_from([0.0, 0.2, 0.7, 50.0]))
def test_an_image_stops_when_its_running_prediction_is_clear(
    readout: str, skip: bool, drawn: tuple[Array, float, int], margin: float
):
    scores, epsilon, seed = drawn
    z = outputs(scores, seed)
    steps, depth = scores.shape[:2]
    config = StasConfig(accumulate="image", readout=readout, epsilon=epsilon, margin=margin)
    output = run(config, z, skip)
    running = [z[0, : t + 1, -1].mean(axis=(0, 1)) for t in range(steps)]  # the head shows what it sees
    gaps = [np.sort(logits)[-1] - np.sort(logits)[-2] for logits in running]
    last = next((t for t, gap in enumerate(gaps) if gap >= margin), steps - 1)
    assert output.visits[0, : last + 1].all() and not output.visits[0, last + 1 :].any()
    seen = z[0, last, -1].mean(axis=0) if readout == "last-state" else running[last]
    np.testing.assert_allclose(output.logits[0].numpy(), seen, rtol=0, atol=1e-12)
    assert float(output.ponder) == (last + 1) * depth


def test_images_of_a_batch_do_not_meet():
    z = np.concatenate([outputs(np.random.default_rng(i).normal(size=(3, 2, 4)), i) for i in range(3)])
    for accumulate, readout in itertools.product(ACCUMULATIONS, READOUTS):
        config = StasConfig(accumulate=accumulate, readout=readout, alpha=1.0, beta=0.0, epsilon=0.2)
        together = run(config, z)
        for i in range(3):
            alone = run(config, z[i : i + 1])
            torch.testing.assert_close(together.logits[i : i + 1], alone.logits, rtol=0, atol=1e-14)
            assert torch.equal(together.visits[i : i + 1], alone.visits)


# Computed by hand ---------------------------------------------------------------------------------------


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def weights(accumulate: str, scores: list[list[float]], epsilon: float) -> tuple[list[float], Halting]:
    """Weights of one token's visits in order, 0 where the mode has none, and the halting itself."""
    config = StasConfig(accumulate=accumulate, alpha=2.0, beta=-1.0, epsilon=epsilon)
    config = config.replace(time_steps=len(scores), depth=len(scores[0]))
    halting = Halting(config, torch.zeros(1, 1).double())
    out = []
    for (t, row), l in itertools.product(enumerate(scores), range(len(scores[0]))):
        halting.open(t, l)
        z = torch.tensor([[[(logit(row[l]) + 1) / 2, 7.0]]], dtype=torch.float64)
        p = halting.visit(t, l, z)
        out.append(0.0 if p is None else float(p))
    return out, halting


SCORES = [[0.3, 0.5], [0.6, 0.1]]
BY_HAND = {
    # H: .3, .8, then .8 + .6 >= 1: the third visit takes 1 - .8 and is the last.
    "raster": ([0.3, 0.5, 0.2, 0.0], 0.2, [1, 1, 1, 0]),
    # Step 1: .3, then forced in the last block with the rest .7. Step 2: .6, forced with .4. Halved.
    "block": ([0.15, 0.35, 0.3, 0.2], 0.7 + 0.4, [1, 1, 1, 1]),
    # Only the last block scores: .5, then forced at the last step with .5.
    "time": ([0.0, 0.5, 0.0, 0.5], 0.5, [1, 1, 1, 1]),
    # Step 1: enters both (0, .3). Step 2: enters block 1, then .3 + .6 = .9 < .95 also block 2.
    # Remainders: 1 - .3 and 1 - .9, halved. Weights are the bare scores; the readout normalises them.
    "rectangular": ([0.3, 0.5, 0.6, 0.1], (0.7 + 0.1) / 2, [1, 1, 1, 1]),
}


@pytest.mark.parametrize("accumulate", HALTING)
def test_by_hand(accumulate: str):
    p, halting = weights(accumulate, SCORES, 0.05)
    expected, remainder, visits = BY_HAND[accumulate]
    assert p == pytest.approx(expected, abs=1e-12)
    assert float(halting.remainder) == pytest.approx(remainder)
    assert [float(mask) for mask in halting.visits] == visits


def test_rectangular_closes_by_hand():
    """With a larger epsilon .3 + .6 = .9 closes block 2 at step 2; its remainder is then that of block 1."""
    p, halting = weights("rectangular", SCORES, 0.1 + 1e-9)
    assert p == pytest.approx([0.3, 0.5, 0.6, 0.0])
    assert float(halting.remainder) == pytest.approx((0.7 + 1.0) / 2)
    # Column sums: block 2 at step 3 would see .3 + .6 + .4 of block 1 and stays closed.
    p, halting = weights("rectangular", [*SCORES, [0.4, 0.9]], 0.1 + 1e-9)
    assert [float(mask) for mask in halting.visits] == [1, 1, 1, 0, 1, 0]
    assert p == pytest.approx([0.3, 0.5, 0.6, 0.0, 0.4, 0.0])


def test_the_score_that_reaches_the_threshold_halts():
    """sigmoid(0) is exactly a half: two of them reach 1 - 0, one reaches 1 - 0.5."""
    half = [[0.5, 0.5, 0.5]]
    for accumulate in ("raster", "block"):
        assert weights(accumulate, half, 0.0)[0] == [0.5, 0.5, 0.0]
        assert weights(accumulate, half, 0.5)[0] == [1.0, 0.0, 0.0]
    assert weights("time", [[0.5], [0.5], [0.5]], 0.0)[0] == [0.5, 0.5, 0.0]
    assert weights("rectangular", half, 0.0)[0] == [0.5, 0.5, 0.0]
    assert weights("rectangular", half, 0.5)[0] == [0.5, 0.0, 0.0]


def test_the_score_is_the_sigmoid_of_the_first_channel():
    config = StasConfig(alpha=0.75, beta=-3.0, depth=2)
    halting = Halting(config, torch.zeros(1, 2).double())
    halting.open(0, 0)
    p = halting.visit(0, 0, torch.tensor([[[2.0, 100.0], [-1.0, -100.0]]], dtype=torch.float64))
    assert p is not None
    assert p[0].tolist() == pytest.approx([1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(3.75))])


# Invariants ---------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(scored(), st.sampled_from(HALTING))
def test_invariants(drawn: tuple[Array, float, int], accumulate: str):
    scores, epsilon, seed = drawn
    steps, depth, tokens = scores.shape
    config = StasConfig(
        accumulate=accumulate, time_steps=steps, depth=depth, alpha=1.0, beta=0.0, epsilon=epsilon
    )
    z = torch.from_numpy(outputs(scores, seed))
    halting = Halting(config, torch.zeros(1, tokens).double())
    p = torch.zeros(steps, depth, tokens).double()
    for t, l in itertools.product(range(steps), range(depth)):
        halting.open(t, l)
        weight = halting.visit(t, l, z[:, t, l])
        if weight is not None:
            p[t, l] = weight[0]
    live = torch.stack(halting.visits)[:, 0].reshape(steps, depth, tokens)
    assert (p >= 0).all()
    assert (p[live == 0] == 0).all()
    ones = torch.ones(tokens).double()
    if accumulate != "rectangular":
        torch.testing.assert_close(p.sum((0, 1)), ones, rtol=0, atol=1e-12)
    if accumulate == "block":
        torch.testing.assert_close(p.sum(1), ones.expand(steps, -1) / steps, rtol=0, atol=1e-12)
    if accumulate in ("rectangular", "block"):
        assert (live[:, 0] == 1).all(), "the first block is always visited"
    assert (live[:, 1:] <= live[:, :-1]).all(), "within a step what has closed stays closed"
    if accumulate != "block":
        flat = live if accumulate == "rectangular" else live.flatten(0, 1)
        assert (flat[1:] <= flat[:-1]).all(), "what has closed to a token stays closed"
    assert ((halting.remainder >= 0) & (halting.remainder <= steps)).all()


def test_epsilon_zero_halts_only_at_one():
    """Scores that sum up to just below 1 never halt, and the forced last visit takes what is left."""
    p, halting = weights("raster", [[0.25, 0.25], [0.25, 0.2499]], 0.0)
    assert p == pytest.approx([0.25] * 4)
    assert float(halting.remainder) == pytest.approx(0.25)
    assert all(mask.all() for mask in halting.visits)


def test_ponder_gradient_flows_through_the_remainder_only():
    scores = torch.tensor([[0.3, 0.5], [0.6, 0.1]], dtype=torch.float64).logit().requires_grad_()
    config = StasConfig(accumulate="raster", time_steps=2, depth=2, alpha=1.0, beta=0.0, epsilon=0.05)
    halting = Halting(config, torch.zeros(1, 1).double())
    for t, l in itertools.product(range(2), range(2)):
        halting.open(t, l)
        halting.visit(t, l, scores[t, l].reshape(1, 1, 1))
    (torch.stack(halting.visits).sum() + halting.remainder.sum()).backward()
    # The remainder is 1 - h1 - h2, and dh = h (1 - h) of its logit; later visits do not count.
    assert scores.grad is not None
    expected = torch.tensor([[-0.3 * 0.7, -0.5 * 0.5], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(scores.grad, expected)


# What a halted token does -------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("backbone", ["spikformer", "spikingformer"])
@pytest.mark.parametrize("attention", ["ssa", "sdsa"])
@pytest.mark.parametrize("accumulate", ["raster", "time"])
def test_a_halted_token_contributes_nothing(accumulate: str, attention: str, backbone: str, skip: bool):
    """What the stem would feed to tokens that have halted cannot change anything."""
    choice = {"stem": "sps", "accumulate": accumulate, "attention": attention, "backbone": backbone}
    config = random_config(choice, 5).replace(
        time_steps=4, depth=2, image_size=4, patch_size=1, alpha=0.5, beta=0.0, epsilon=0.2
    )
    model = random_model(config, 5)
    images = torch.from_numpy(images_for(config, 3, 5))
    with torch.no_grad():
        before = model(images, skip=skip)
        stem = model.stem.forward
        halted = ~before.visits[:, :, 0].transpose(0, 1).unsqueeze(-1)  # (T, B, N, 1)
        assert halted.any() and not halted.all()
        model.stem.forward = lambda x: torch.where(halted, 50 * torch.randn_like(stem(x)), stem(x))  # type: ignore[method-assign]
        after = model(images, skip=skip)
        assert torch.equal(after.logits, before.logits)
        assert torch.equal(after.visits, before.visits)
        # And those of live tokens do count.
        model.stem.forward = lambda x: torch.where(halted, stem(x), stem(x) + 1)  # type: ignore[method-assign]
        assert not torch.equal(model(images, skip=skip).logits, before.logits)


@pytest.mark.parametrize("accumulate", HALTING)
def test_scores_of_zero_are_no_division_by_zero(accumulate: str):
    """Scores that underflow leave weights that sum to zero under rectangular: the feature is then zero."""
    config = random_config({"stem": STEMS[0], "accumulate": accumulate, "readout": "mean-field"}, 2)
    model = random_model(config.replace(beta=-800.0), 2)
    images = images_for(config, 2, 2)
    with torch.no_grad():
        logits = model(torch.from_numpy(images)).logits.numpy()
    graph = FoldBatchNorm()(lower(model))
    for other in (run_reference(graph, images), run_lava(graph, images)):
        np.testing.assert_allclose(logits, other.logits, rtol=0, atol=1e-9)
    if accumulate == "rectangular":
        np.testing.assert_allclose(logits, np.tile(model.head.bias.detach(), (2, 1)))
