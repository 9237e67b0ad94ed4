"""Which deployments are shown, and whether those on the frontier are marked."""

from __future__ import annotations

import pytest

from stas_neuro.chips import load_profile
from stas_neuro.energy import Deployment, Interval
from stas_neuro.optimiser.choice import Choice, frontier_of
from stas_neuro.optimiser.result import Candidate, Price
from stas_neuro.optimiser.search import Explored, Target
from stas_neuro.optimiser.space import Placing, Variant

FAMILIES = ("full", "static", "image", "block")


def candidate(number: int) -> Candidate:
    """One of a frontier of 12: more accurate and dearer than the one before."""
    family = FAMILIES[number % 4]
    energy = Interval(value=1.0 + number, low=0.5, high=20.0)
    one = Interval(value=1.0, low=1.0, high=1.0)
    return Candidate(
        variant=Variant(family=family, options={"steps": 1 + number % 3} if family == "static" else {}),
        placing=Placing(strategy="token-major", cores=None, groups=None),
        deployment=Deployment(),
        accuracy=0.5 + number / 100,
        visits=1.0,
        cores=1,
        sample=(0,),
        price=Price(energy_j=energy, latency_s=one, throughput_images_per_s=one),
    )


@pytest.mark.parametrize("points", [1, 2, 5, 12])
def test_shown_points_of_the_frontier_are_marked_so(points: int) -> None:
    found = [candidate(number) for number in range(12)]
    found.append(candidate(3))  # as good as another: not on the frontier
    assert len(frontier_of(found)) == 12
    picked = Choice(points=points, min_accuracy=0.55).of(
        Explored(found=found), Target(load_profile("loihi2"), "single")
    )
    shown = [(each, roles) for each, roles in picked.candidates]
    assert all("frontier" in roles for _, roles in shown)
    assert picked.left_out == 12 - len(shown)
    (best,) = (each for each, roles in shown if "best" in roles)
    assert best.accuracy == 0.55
    roles = {role for _, own in shown for role in own}
    assert {"full network", "fewer steps", "image exit", "token halting"} <= roles
