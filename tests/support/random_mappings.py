"""Random mappings of a graph: every layer cut at random, its pieces on random cores of random chips."""

from __future__ import annotations

from hypothesis import strategies as st

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir import Graph
from stas_neuro.mapping import CoreLocation, Mapping, Piece


@st.composite
def mappings(draw: st.DrawFn, graph: Graph, *, cores: int = 6, chips: int = 2) -> Mapping:
    """Valid mappings of a graph onto at most `cores` cores of at most `chips` chips."""
    count = draw(st.integers(1, cores))
    place = st.integers(0, 2)
    sites = tuple(
        CoreLocation(chip=draw(st.integers(0, chips - 1)), x=draw(place), y=draw(place)) for _ in range(count)
    )
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        room = draw(st.permutations(range(count)))
        # Cut into a x b pieces, each on a core of its own.
        parts = draw(st.integers(1, min(features, count)))
        groups = draw(st.integers(1, min(positions, count // parts)))
        group_of = [draw(st.integers(0, groups - 1)) for _ in range(positions)]
        inner = st.integers(1, features - 1) if features > 1 else st.nothing()
        cuts = sorted(draw(st.sets(inner, min_size=parts - 1, max_size=parts - 1)) if parts > 1 else [])
        for group in sorted(set(group_of)):
            members = tuple(index for index, of in enumerate(group_of) if of == group)
            for part in zip([0, *cuts], [*cuts, features], strict=True):
                core = room[len([p for p in pieces if p.layer == layer])]
                pieces.append(Piece(layer=layer, core=core, positions=members, features=part))
    return Mapping(profile="loihi2", strategy="token-major", cores=sites, pieces=tuple(pieces))


def one_core(graph: Graph) -> Mapping:
    """Everything on one core."""
    pieces = tuple(
        Piece(layer=layer, core=0, positions=tuple(range(positions)), features=(0, features))
        for layer, (positions, features) in neuron_layers(graph).items()
    )
    return Mapping(profile="loihi2", strategy="token-major", cores=(CoreLocation(),), pieces=pieces)
