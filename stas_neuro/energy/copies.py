"""Copies of a network on chips."""

from __future__ import annotations

from dataclasses import dataclass

from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.energy.core_assignment import CoreAssignment
from stas_neuro.energy.deployment import Deployment


@dataclass(frozen=True)
class Copies:
    """Number of copies of a network in all and on one chip, and the chips in use."""

    total: int = 1
    on_a_chip: int = 1
    chips: int = 1


def copies_of(deployment: Deployment, placement: CoreAssignment | None, profile: Profile) -> Copies:
    """Return the copies of a deployment, as many on each chip as its cores allow.

    A network on several chips has these for itself.

    Raises CannotRun where copies are requested of a network without cores, or on more chips than there are.
    """
    if placement is None:
        if deployment.replicas != 1:
            why = profile.reason("limits")
            raise CannotRun(
                f"replicas of a network on profile {profile.name}, which has no cores: {why}", "use one"
            )
        return Copies()
    room = profile.limit("cores_per_chip") // placement.cores if placement.chips == 1 else 1
    total = max(room, 1) if deployment.replicas == "fill" else deployment.replicas
    chips = -(-total // max(room, 1)) * placement.chips
    known = profile.reason("limits.chips") is None and "limits.chips" in profile.entries()
    if total > 1 and known and chips > profile.limit("chips"):
        what = f"{total} replicas take {chips} chips, the limit of {profile.name} is {profile.limit('chips')}"
        raise CannotRun(what, "use fewer")
    return Copies(total, min(total, max(room, 1)), chips)
