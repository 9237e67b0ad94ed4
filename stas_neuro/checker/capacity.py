"""What the cores of a chip hold: whether the network can be placed on them, and how many it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stas_neuro.checker.findings import Deployment
from stas_neuro.chips import Finding
from stas_neuro.mapping import Mapping
from stas_neuro.placement import DoesNotFit

PLACED = (
    "cores are those of the placement token-major, with as many groups as take the fewest; another strategy "
    "or number of groups may take more"
)
"""What every figure of cores assumes."""


def capacity(deployment: Deployment, place: Callable[[], Mapping]) -> Iterator[Finding]:
    """Find every limit of the chip that a placement of the network breaks, or what it takes.

    `place` gives the placement, and raises DoesNotFit.
    """
    if deployment.bits > deployment.profile.limit("weight_bits"):
        return  # weights that no core holds are reported as such
    try:
        mapping = place()
    except DoesNotFit as refusal:
        for reason in refusal.reasons:
            # Memory is counted in bits, and reported in bytes.
            unit = 8 if reason.resource == "synaptic memory" else 1
            used, limit = -(-reason.needed // unit), reason.limit // unit
            yield deployment.error(reason.layer, reason.resource, used, limit, reason.remedy)
        return
    neurons = sum(layer.neurons for layer in deployment.layers.values() if not layer.placed_with)
    of_chip = deployment.profile.limit("cores_per_chip")
    yield deployment.info("", "neurons", neurons, of_chip * deployment.profile.limit("neurons_per_core"))
    cores, chips = len(mapping.cores), mapping.chips
    if chips > 1:
        remedy = f"it takes {chips} chips: use a smaller model or fewer weight bits for one"
        yield deployment.warning("", "cores", cores, of_chip, remedy)
    else:
        yield deployment.info("", "cores", cores, of_chip)
