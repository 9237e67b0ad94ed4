"""The ponder loss in joules: what the surrogate predicts, its gradient, and what training makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ir_random import Recipe, build, images_for
from support.training_runs import CONFIG, OPTIONS, digits, log_of

from stas_neuro.activity import Activity
from stas_neuro.chips import Profile, load_profile
from stas_neuro.choices import Mode
from stas_neuro.energy import price
from stas_neuro.errors import InputError
from stas_neuro.models.config import StasConfig, preset
from stas_neuro.models.halting import Halting
from stas_neuro.models.stas import StasModel
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.ponder import EnergySurrogate, deployment_of, full_activity, surrogate, thinned
from stas_neuro.training.train import train

POLICIES = ("raster", "rectangular", "block", "time", "image")


def joules(activity: Activity, profile: Profile, mode: Mode = "single") -> float:
    totals = price(activity, profile, deployment_of(activity, profile, mode))
    energy = totals.energy_j or totals.dynamic_energy_j
    assert energy is not None
    return energy.value


@pytest.mark.parametrize("mode", ["single", "stream"])
@pytest.mark.parametrize("policy", POLICIES)
def test_all_visits_cost_what_they_are_priced_at(policy: str, mode: str) -> None:
    graph = build(Recipe(norm=False, halting=policy, time_steps=3, blocks=2))
    images, profile = images_for(graph, 3), load_profile("loihi2")
    found = surrogate(graph, images, profile, mode)
    every = torch.ones(3, 3, graph.blocks, graph.tokens)
    assert float(found.energy(every).mean()) == pytest.approx(
        joules(full_activity(graph, images), profile, mode)
    )
    assert found.full == pytest.approx(float(found.energy(every)[0]))
    assert float(found.loss(every)) == pytest.approx(3 * graph.blocks)
    assert all(each >= 0 for row in found.step for each in row)


@pytest.mark.parametrize("policy", ["raster", "rectangular", "block"])
def test_a_chip_with_prices_of_operations_alone_is_predicted_exactly(policy: str) -> None:
    """The price of an operation count is linear in visits, but for rounded counts."""
    graph = build(Recipe(norm=False, halting=policy, time_steps=3, blocks=2))
    images, profile = images_for(graph, 40), load_profile("cmos45")
    found, full = surrogate(graph, images, profile), full_activity(graph, images)
    visits = np.random.default_rng(0).random((40, 3, graph.blocks, graph.tokens)) < 0.5
    visits[:] = visits[:1]
    assert float(found.energy(torch.from_numpy(visits).double()).mean()) == pytest.approx(
        joules(thinned(full, visits), profile), rel=0.02
    )


def test_hardware_steps_end_with_the_last_token() -> None:
    """Where model steps can end early, one token keeps all hardware steps of a block."""
    graph = build(Recipe(norm=False, halting="raster", time_steps=2, blocks=2))
    images, profile = images_for(graph, 4), load_profile("loihi2")
    activity = full_activity(graph, images)
    assert deployment_of(activity, profile).early_end
    found = surrogate(graph, images, profile)
    seen = np.ones((4, 2, graph.blocks, graph.tokens), dtype=bool)
    seen[:, 1, 1, 1:] = False
    one = joules(thinned(activity, seen), profile)
    seen[:, 1, 1] = False
    none = joules(thinned(activity, seen), profile)
    whole = joules(activity, profile)
    assert min(min(row) for row in found.step) > 0
    assert one - none > (whole - none) / graph.tokens  # a single visit costs more than its share
    predicted = found.energy(torch.from_numpy(seen).double()).mean()
    assert float(predicted) == pytest.approx(none, rel=1e-6)


def test_the_gradient_of_a_hardware_step_is_shared_by_tokens() -> None:
    graph = build(Recipe(norm=False, halting="raster", time_steps=2, blocks=1))
    found = surrogate(graph, images_for(graph, 2), load_profile("loihi2"))
    visits = torch.ones(1, 2, 1, graph.tokens, dtype=torch.float64, requires_grad=True)
    found.energy(visits).sum().backward()
    step, visit = (torch.tensor(each, dtype=torch.float64) for each in (found.step, found.visit))
    torch.testing.assert_close(visits.grad[0].sum(-1), step + visit)
    assert (visits.grad[0, :, 0] == visits.grad[0, :, 0, :1]).all()


def test_without_halting_there_is_nothing_to_weigh() -> None:
    graph = build(Recipe(norm=False, halting="off"))
    with pytest.raises(InputError, match="does not halt, so no visits can be weighed"):
        surrogate(graph, images_for(graph, 2), load_profile("loihi2"))


def test_exits_are_those_of_inference() -> None:
    """Training computes all steps and chooses: the same logits and visits as stopping at the exit."""
    torch.manual_seed(0)
    config = preset("tiny").replace(accumulate="image", readout="rate", time_steps=4, stem="sps")
    model = StasModel(config).eval()
    images = torch.randn(12, 1, 8, 8)
    with torch.no_grad():
        first, second = model._exits(model.stem(images)).running.topk(2, dim=2).values.unbind(2)
        model.config = config.replace(margin=float((first - second).median()))
        stopped = model(images, skip=True)
        chosen = model._exits(model.stem(images))
    assert 0 < stopped.token_ratio < 1
    torch.testing.assert_close(chosen.logits, stopped.logits)
    assert torch.equal(chosen.visits, stopped.visits)
    assert torch.equal(chosen.soft_visits.bool(), chosen.visits)
    assert chosen.running is not None and chosen.running.shape == (12, 4, 10)
    torch.testing.assert_close(chosen.ponder, stopped.ponder)


def soft_visits(config: StasConfig, z: torch.Tensor) -> torch.Tensor:
    """Let tokens halt by outputs z (T, L, B, N, D) of their visits; return the visits (B, T, L, N)."""
    halting = Halting(config, torch.zeros(z.shape[2:4]))
    for step, block in np.ndindex(*z.shape[:2]):
        halting.open(step, block)
        halting.visit(step, block, z[step, block])
    return torch.stack(halting.soft_visits).unflatten(0, z.shape[:2]).permute(2, 0, 1, 3)


@pytest.mark.parametrize("policy", ["raster", "rectangular", "block", "time"])
def test_higher_scores_lower_the_losses(policy: str) -> None:
    """Through weighed visits and the penalty on tokens that never halt; alpha is positive."""
    config = CONFIG.replace(accumulate=policy, time_steps=3, depth=2, beta=-1.0)
    made = EnergySurrogate(1.0, ((1.0, 2.0),) * 3, ((2.0, 1.0),) * 3)
    for loss in (made.loss, lambda visits: visits[:, -1, -1].mean()):
        z = torch.rand(3, 2, 4, 5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss(soft_visits(config, z)).backward()
        assert z.grad is not None
        assert (z.grad[..., 0] <= 0).all() and (z.grad[..., 0] < 0).any() and not z.grad[..., 1:].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [{"ponder_profile": "loihi2", "ponder_weight": 1.0}, {"zombie_weight": 20.0, "ponder_weight": 0.0}],
)
def test_they_shorten_visits_in_training(tmp_path: Path, words: dict[str, Any]) -> None:
    """With each of some seeds, whose effects differ, and by 0.1 of all visits on average."""
    config, data = preset("tiny").replace(beta=-1.5), digits(256)
    shorter = []
    for seed in (1, 2, 3):
        home, seeded = tmp_path / str(seed), replace(OPTIONS, seed=seed)
        train(config, data, replace(seeded, stage2_epochs=0), home / "base")
        ratios = []
        for number, each in enumerate(({"ponder_weight": 0.0}, words)):
            options = replace(
                seeded, stage1_epochs=0, stage2_epochs=6, stage2_rate=0.02, ponder_ramp=0.0, **each
            )
            train(config, data, options, home / str(number), init=home / "base")
            ratios.append(log_of(home / str(number))[-1]["token_ratio"])
        shorter.append(ratios[0] - ratios[1])
    assert min(shorter) > 0
    assert np.mean(shorter) > 0.1


@pytest.mark.parametrize("policy", ["raster", "image"])
def test_a_resumed_training_has_the_same_prices(tmp_path: Path, policy: str) -> None:
    config = CONFIG.replace(accumulate=policy, readout="rate", margin=0.01)
    words = {"ponder_profile": "loihi2", "ponder_mode": "stream", "exit_loss": float(policy == "image")}
    options = replace(OPTIONS, stage1_epochs=0, **words)
    train(config, digits(64), options, tmp_path / "whole")

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(config, digits(64), options, tmp_path / "again", report=stop)
    train(config, digits(64), options, tmp_path / "again", resume=True)
    names = ("again", "whole")
    assert len({(tmp_path / name / "model.safetensors").read_bytes() for name in names}) == 1


@pytest.mark.parametrize(
    ("policy", "words", "problem"),
    [
        ("raster", {"exit_loss": 1.0}, "exit_loss is of halting image, and accumulate is raster"),
        ("off", {"ponder_profile": "loihi2"}, "accumulate is off, so there are no visits to weigh"),
        ("raster", {"ponder_profile": "loihi9"}, "loihi9"),
    ],
)
def test_what_cannot_be_weighed_is_refused_before_training(
    tmp_path: Path, policy: str, words: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        train(CONFIG.replace(accumulate=policy), digits(), replace(OPTIONS, **words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(InputError, match=r"there is no ponder mode 'burst'; use one of single, stream"):
        TrainOptions(ponder_mode="burst")
