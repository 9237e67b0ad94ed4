"""Runs passes in order and names the one that fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stas_neuro.errors import InputError, StasError
from stas_neuro.ir import Graph


class Pass(Protocol):
    """A frozen dataclass whose fields are its options; the graph it returns is verified like every graph."""

    def __call__(self, graph: Graph) -> Graph:
        """Return the rewritten graph; raise an IRError that names the nodes it cannot rewrite."""


class PassError(InputError):
    """A pass could not rewrite a graph; `__cause__` is its own error."""


def run_passes(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Apply passes one after another.

    Raises
    ------
    PassError
        Naming the pass that failed, those that ran before it, and what it said.
    """
    done: list[str] = []
    for rewrite in passes:
        name = type(rewrite).__name__
        try:
            graph = rewrite(graph)
        except StasError as e:
            before = f" after {', '.join(done)}" if done else ""
            raise PassError(f"pass {name}{before}: {e.what}", remedy=e.remedy) from e
        done.append(name)
    return graph
