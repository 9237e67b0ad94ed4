"""An integer program divided by chip, and what its chips did joined again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from stas_neuro.activity import ActivityBuilder
from stas_neuro.activity.layers import builder_for, mapped_layers
from stas_neuro.fast.chip_execution import ChipProgram, ChipTrace
from stas_neuro.fast.execution import batch_size
from stas_neuro.fast.messages import Port, words_of
from stas_neuro.fast.program import FastProgram
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.chips import ChipShare, Division, divide
from stas_neuro.mapping.routes import Routes, routes
from stas_neuro.trace import Trace

Array = NDArray[Any]


def by_chip(program: FastProgram) -> FastProgram | ChipsProgram:
    """Divide a program by the chips of its mapping. On one chip, or without a mapping, it stays as it is.

    Then parts of a batch run side by side on all processors, which is faster than one process.
    """
    several = program.mapping is not None and len(program.mapping.used_chips) > 1
    return ChipsProgram(program) if several else program


@dataclass(frozen=True, eq=False)
class ChipsProgram:
    """A program with a mapping, divided by chip.

    Raises InputError when it is divided, if the mapping is not one of the graph.
    """

    program: FastProgram

    @property
    def mapping(self) -> Mapping:
        """The mapping."""
        assert self.program.mapping is not None
        return self.program.mapping

    @cached_property
    def division(self) -> Division:
        """What each chip computes and sends."""
        return divide(self.program.graph, self.mapping)

    @property
    def chips(self) -> Sequence[int]:
        """The numbers of the chips."""
        return [share.chip for share in self.division.shares]

    @property
    def classifier(self) -> int:
        """The chip that has the logits."""
        return next(share.chip for share in self.division.shares if share.classifies)

    @cached_property
    def _routes(self) -> Routes:
        return routes(self.program.graph, self.mapping)

    @cached_property
    def _record(self) -> ActivityBuilder:
        """An empty record of no images."""
        return builder_for(self.program.graph, 0, self.mapping)

    @cached_property
    def _rows(self) -> list[list[int]]:
        """The rows of the record that each chip counts, in the order in which it does."""
        number = {layer.name: at for at, layer in enumerate(self._record.layers)}
        layers = [mapped_layers(self.program.graph, self.mapping, each) for each in self.division.shares]
        return [[number[layer.name] for layer in of_chip] for of_chip in layers]

    def share(self, chip: int) -> ChipProgram:
        """Give the program of a chip."""
        (share,) = (share for share in self.division.shares if share.chip == chip)
        transfers = {
            name: [each for each in transfers if chip in (each.sender, each.receiver)]
            for name, transfers in self.division.transfers.items()
        }
        return ChipProgram(self.program, share, transfers, _of_share(self._routes, share))

    def images_at_once(self, images: int) -> int:
        """Number the images, out of some, that the chips take at a time."""
        return batch_size(self.program.graph, images)

    def links(self, images: int) -> Dict[tuple[int, int], int]:
        """Give the words of the longest message from one chip to another, of so many images at a time."""
        links: dict[tuple[int, int], int] = {}
        for name, transfers in self.division.transfers.items():
            ports = Port.of(self.program.graph, name)
            for each in transfers:
                link = each.sender, each.receiver
                links[link] = max(links.get(link, 0), words_of(ports, each, images))
        return links

    def joined(self, traces: Sequence[ChipTrace]) -> Trace:
        """Join what the chips did with one batch."""
        (classified,) = (trace for trace in traces if trace.logits is not None)
        logits, visits = classified.logits, classified.visits
        assert logits is not None and visits is not None
        builder = replace(self._record, images=len(visits))
        for rows, trace in zip(self._rows, traces, strict=True):
            builder.begin(trace.counts)
            for kind, counts in trace.counts.items():
                builder.table(kind)[:, rows] = counts
        return Trace(
            logits=logits,
            visits=visits,
            counted=builder.build(visits),
            spikes=_sums([trace.spikes for trace in traces]),
            states=_sums([trace.states for trace in traces]),
        )


def _sums(of_chips: Iterable[Dict[str, Array]]) -> dict[str, Array]:
    """Add arrays by name, each of which is 0 where another has values."""
    found: dict[str, Array] = {}
    for arrays in of_chips:
        for name, values in arrays.items():
            found[name] = found[name] + values if name in found else values
    return found


def _of_share(ways: Routes, share: ChipShare) -> Routes:
    """Give the routes of what a chip sends, and what arrives there from beside the cores."""
    cores = {piece.core for piece in share.mapping.pieces}
    return replace(
        ways,
        routes=tuple(route for route in ways.routes if route.source in share.holds),
        arrivals=tuple(arrival for arrival in ways.arrivals if arrival.core in cores),
    )
