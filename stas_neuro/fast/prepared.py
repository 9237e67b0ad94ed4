"""What runs of one graph share: how it is computed and counted, and buffers. Kept from one run to the next.

Planning converts all weights, which for a few images of a wide network takes as long as the run itself; new
buffers cost a page fault for every 4 KiB. Of all graphs of a process together, `LIMIT` bytes are kept.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from threading import Lock

from stas_neuro.fast.buffers import Buffers
from stas_neuro.fast.counting import FastCounting
from stas_neuro.fast.plan import Plan, plan
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping

LIMIT = 1 << 29
"""Bytes that are kept at most between runs; those of the latest run first."""


@dataclass(eq=False)
class Prepared:
    """The plan of a graph, with or without products of 8-bit numbers, and what its runs have left."""

    plan: Plan
    buffers: list[Buffers] = field(default_factory=list)
    _counting: dict[tuple[int, str], tuple[Mapping | None, FastCounting]] = field(default_factory=dict)
    """By the identity of a mapping, which is kept so that no other gets it, and by gating."""

    def counting(self, graph: Graph, mapping: Mapping | None, gating: str) -> FastCounting:
        """Give the plan of the counting of a run; of those with a mapping only the last one is kept."""
        key = id(mapping), gating
        if key not in self._counting:
            of_none = {known: held for known, held in self._counting.items() if held[0] is None}
            planned = FastCounting(graph, mapping, gating, set(self.plan.operations))
            self._counting = of_none | {key: (mapping, planned)}
        return self._counting[key][1]

    def workers(self, count: int) -> list[Buffers]:
        """Give buffers of so many workers, those of an earlier run first."""
        taken, self.buffers = self.buffers[:count], []
        return [*taken, *(Buffers() for _ in range(count - len(taken)))]

    @property
    def size(self) -> int:
        """Bytes that most of it takes."""
        counted = sum(counting.bytes for _, counting in self._counting.values())
        return self.plan.size + counted + sum(each.size for each in self.buffers)


_lock = Lock()
_latest: list[tuple[weakref.ref[Graph], bool]] = []
"""Graphs with something kept, which it ends with, and whether of 8-bit products; the latest first."""


def take(graph: Graph, *, eight_bit: bool) -> Prepared:
    """Return what an earlier run of a graph has left, which no other run then gets, or make it."""
    with _lock:
        if kept := _kept(graph, eight_bit):
            return kept.pop()
    return Prepared(plan(graph, eight_bit=eight_bit))


def give_back(graph: Graph, prepared: Prepared, *, eight_bit: bool) -> None:
    """Keep something for the next run of a graph, and what is older as far as the limit allows."""
    with _lock:
        _kept(graph, eight_bit)[:] = [prepared]
        others = [(of, eight) for of, eight in _latest if of() is not graph or eight != eight_bit]
        _latest[:] = []
        left = LIMIT
        for of, eight in ((weakref.ref(graph), eight_bit), *others):
            known = of()
            if known is None:
                continue
            kept = _kept(known, eight)
            left -= sum(each.size for each in kept)
            if left >= 0:
                _latest.append((of, eight))
            else:
                kept.clear()


def _kept(graph: Graph, eight_bit: bool) -> list[Prepared]:
    """Give the list that holds what is kept of a graph, at most one."""
    return graph.derived(("prepared runs", eight_bit), list)
