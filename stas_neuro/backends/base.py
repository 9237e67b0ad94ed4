"""Interface of a backend, which runs a network on images and returns the same trace as all others."""

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
from stas_neuro.trace import Collect, Trace

Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all images."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run; a backend refuses options that it does not support.

    Parameters
    ----------
    dtype : type
        np.float64 or np.float32: precision of a float network.
    mapping : Mapping, optional
        The mapping to cores by which activity is counted.
    gating : str
        How halted tokens are treated: "silent", "core" or "power". For "none", the graph has already been
        replaced by one that computes halted tokens.
    record_spikes, record_states : bool
        Whether the trace has the spikes of every LIF, and the membranes and scores of a quantised graph.
    runtime : str
        One of `RUNTIMES`: in this interpreter, or in one operating-system process per process of Lava.
    granularity : str
        One of `GRANULARITIES`: whether a process of Lava is a node of the network ("layer"), or a chip of
        its placement ("chip"). "auto" is left to the backend.
    deadline_s : float
        Longest time in s that a multi-process runtime may take from one image to the next.
    progress : callable, optional
        Called with the number of finished images and of all images.
    collect : callable
        Called by a backend with `reads_slices` with the traces of its batches as they come, in order, and the
        number of all images; returns the trace of all.
    kept : int64 array, optional
        Numbers of the images whose counts `collect` keeps, in increasing order; None for all. A backend with
        `reads_slices` may give the record of a batch the counts of these alone, and the sums over all of its
        images, which takes less time. Others are given None.
    """

    dtype: type[np.floating[Any]] = np.float64
    mapping: Mapping | None = None
    gating: str = "silent"
    record_spikes: bool = False
    record_states: bool = False
    runtime: str = "in-process"
    granularity: str = "auto"
    deadline_s: float = 60.0
    progress: Progress | None = None
    collect: Collect = Trace.collect
    kept: NDArray[np.int64] | None = None


class Backend(Protocol):
    """A backend, registered by name, see `stas_neuro.backends`.

    One with a true attribute `reads_slices` is given `stas_neuro.data.PreparedImages` of all images, of which
    it reads the images of a batch at a time, once and in order; it passes the traces of its batches to
    `collect` of its options. Others are given arrays of some images at a time.
    """

    summary: str
    """Description in one line of help."""
    processes: str
    """What a row of its records is: "own" for a node of the network, else a name for other processes."""

    def prepare(self) -> Sequence[Pass]:
        """Return the passes that turn an integer program into one that this backend supports, if any."""

    def check(self, network: Graph) -> None:
        """Raise InputError, with every reason, if the backend cannot run a network."""

    def run(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        """Classify preprocessed images.

        Parameters
        ----------
        network : Graph
            A folded or quantised graph.
        data : (B, C, H, W), or (B, T, C, H, W) for event data
            The result of `api.preprocess`: float64, or int64 in 0..255 for a quantised graph. Slices of the
            latter may be uint8.

        Raises
        ------
        InputError
            For a network or options that it does not support, with a backend that does.
        """


def refuse_runtime(name: str, options: RunOptions) -> None:
    """Raise InputError where a runtime or processes of Lava are asked for, for a backend without them."""
    if options.granularity != "auto":
        what = f"the backend {name} has no granularity {options.granularity}"
        raise InputError(what, "use the backend lava")
    if options.runtime != "in-process":
        what = f"the backend {name} has no runtime {options.runtime}"
        raise InputError(what, "use the backend lava")


def refuse_floats(name: str, network: Graph) -> None:
    """Raise InputError unless the network is an integer program, for a backend that runs no others."""
    if network.stage != Stage.QUANTISED:
        what = f"the graph is {network.stage}, but the backend {name} runs only integer programs"
        raise InputError(what, "compile with --bits, and run with --arithmetic fixed")
