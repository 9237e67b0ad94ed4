"""What is compared with SANA-FE: two networks, two sets of constants, several ways to place them."""

from __future__ import annotations

from sanafe_oracle.cross_check import Case, all_alike
from sanafe_oracle.networks import by_channels, input_spikes, one_core, scattered, spiking_network
from stas_neuro.chips import load_profile

PROFILES = ("loihi1", "loihi1-fitted")
_SEED = 2025


def sanafe_cases() -> tuple[Case, ...]:
    """List the cases, in the order of docs/validation.md."""
    cases = []
    frames = input_spikes(_SEED)
    for leaky in (False, True):
        graph = spiking_network(_SEED, leaky=leaky)
        for mapping in (one_core(graph), by_channels(graph, 3), scattered(graph, 12, _SEED)):
            for name in PROFILES:
                profile = load_profile(name)
                words = "leaky" if leaky else "memoryless", mapping.strategy, name
                cases.append(
                    Case(
                        name=", ".join(words),
                        graph=graph,
                        mapping=mapping,
                        frames=frames,
                        profile=all_alike(profile) if leaky else profile,
                        all_active=leaky,
                    )
                )
    return tuple(cases)
