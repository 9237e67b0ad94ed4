"""What a backend is: something that runs a network on images, and reports what every backend reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.choices import RUNTIMES as RUNTIMES
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.passes import Pass
from stas_neuro.trace import Trace

Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run; a backend refuses what it cannot do.

    Parameters
    ----------
    dtype : type
        np.float64 or np.float32: precision of a float network.
    mapping : Mapping, optional
        The cores on which the activity is counted.
    gating : str
        What becomes of halted tokens: "silent", "core" or "power"; "none" is another graph by now.
    record_spikes, record_states : bool
        Whether the trace holds the spikes of every LIF, and the membranes and scores of a quantised graph.
    runtime : str
        One of `RUNTIMES`: in this interpreter, or an operating-system process a node.
    deadline_s : float
        Longest time in seconds that a runtime of several processes may take between two images.
    progress : callable, optional
        Called with the number of finished images and of all.
    """

    dtype: type[np.floating[Any]] = np.float64
    mapping: Mapping | None = None
    gating: str = "silent"
    record_spikes: bool = False
    record_states: bool = False
    runtime: str = "in-process"
    deadline_s: float = 60.0
    progress: Progress | None = None


class Backend(Protocol):
    """Runs networks. A backend is registered by name, see `stas_neuro.backends`."""

    summary: str
    """What it is, in a line of help."""
    processes: str
    """Whose rows its records have: "own" where a node of the network is one, else a name for what is."""

    def prepare(self) -> Sequence[Pass]:
        """Give the passes that make of any integer program one that this runs; none where it runs all."""

    def check(self, network: Graph) -> None:
        """Raise InputError, with every reason, where it cannot run a network."""

    def run(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        """Classify preprocessed images.

        Parameters
        ----------
        network : Graph
            Folded or quantised.
        data : (B, C, H, W), or (B, T, C, H, W) for event data
            Float64 as `api.preprocess` gives them; of a quantised graph int64, 0..255.

        Raises
        ------
        InputError
            For a network or options that it cannot run, with what can.
        """


def refuse_runtime(name: str, options: RunOptions) -> None:
    """Raise InputError unless the run is to be in this interpreter, of a backend that knows no other."""
    if options.runtime != "in-process":
        what = f"the runtime {options.runtime} is one of the backend lava, not of {name}"
        raise InputError(what, "use the backend lava")


def refuse_floats(name: str, network: Graph) -> None:
    """Raise InputError unless the network is an integer program, of a backend that runs no other."""
    if network.stage != Stage.QUANTISED:
        what = f"the graph is {network.stage}, and the backend {name} computes in integers"
        raise InputError(what, "compile with --bits, and run with --arithmetic fixed")
