"""The program of each chip driven by one thread: each is taken to its next pause in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stas_neuro.analysis import neuron_layers
from stas_neuro.fast import ChipsProgram
from stas_neuro.ir import Array, Graph
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.trace import Trace

Link = tuple[int, int]


@dataclass
class Mail:
    """Messages between chips, by sender and receiver: `longest` has the words of each link's longest."""

    waiting: dict[Link, deque[Array]]
    longest: dict[Link, int]


@dataclass
class InMemory:
    """The exchange of a chip."""

    chip: int
    mail: Mail

    def send(self, chip: int, words: NDArray[np.int32]) -> None:
        link = self.chip, chip
        self.mail.waiting.setdefault(link, deque()).append(words.copy())
        self.mail.longest[link] = max(self.mail.longest.get(link, 0), len(words))

    def receive(self, chip: int) -> NDArray[np.int32]:
        return self.mail.waiting[chip, self.chip].popleft()


def run_in_turn(program: ChipsProgram, images: Array, batch: int = 2) -> Trace:
    """Run images. No message is left over, links fit their longest messages, and no counts of 0 are sent."""
    mail = Mail({}, {})
    chips = [program.share(chip).start(InMemory(chip, mail)) for chip in program.chips]
    traces = []
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        _in_turn(chip.load(some) for chip in chips)
        for step in range(program.program.graph.time_steps):
            _in_turn(chip.model_step(step) for chip in chips)
        _in_turn(chip.finish() for chip in chips)
        of_chips = [chip.trace() for chip in chips]
        assert all(counts.any() for trace in of_chips for counts in trace.counts.values())
        traces.append(program.joined(of_chips))
        assert not any(mail.waiting.values())
    assert mail.longest == program.links(min(batch, len(images)))
    return Trace.concatenate(traces)


def _in_turn(works: Iterable[Iterator[None]]) -> None:
    running, done = list(works), object()
    while running:
        running = [each for each in running if next(each, done) is not done]


def on_chips(mapping: Mapping, chips: int) -> Mapping:
    """Divide the cores of a mapping among chips, in order."""
    each = -(-len(mapping.cores) // chips)
    cores = tuple(replace(core, chip=at // each) for at, core in enumerate(mapping.cores))
    return replace(mapping, cores=cores)


def all_on_both(graph: Graph) -> Mapping:
    """Divide every layer among two chips, so that each needs the other for every node."""
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        half = positions // 2
        for chip, some in enumerate((range(half), range(half, positions))):
            if some:
                pieces.append(Piece(layer=layer, core=chip, positions=tuple(some), features=(0, features)))
    cores = CoreLocation(chip=0), CoreLocation(chip=1)
    return Mapping(profile="loihi2", strategy="token-major", cores=cores, pieces=tuple(pieces))
