"""The built-in backends. Each imports its dependencies when it runs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from stas_neuro.backends.base import RunOptions, refuse_floats, refuse_runtime
from stas_neuro.data import PreparedImages
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.ir import Graph, Stage
from stas_neuro.passes import Pass
from stas_neuro.trace import Trace


class _Any:
    """A backend that supports every network."""

    def prepare(self) -> tuple[Pass, ...]:
        """Return no passes."""
        return ()

    def check(self, network: Graph) -> None:
        """Accept every network."""


class Reference(_Any):
    """The interpreter in numpy."""

    summary = "the interpreter in numpy"
    processes = "own"
    reads_slices = True

    def run(self, network: Graph, data: NDArray[Any] | PreparedImages, options: RunOptions) -> Trace:
        """Run node by node."""
        from stas_neuro.reference import run_reference

        refuse_runtime("reference", options)
        return run_reference(
            network,
            data,
            mapping=options.mapping,
            gating=options.gating,
            dtype=options.dtype,
            record_spikes=options.record_spikes,
            record_states=options.record_states,
            progress=options.progress,
            collect=options.collect,
        )


class Fast:
    """The integer program in compiled loops, on all cores of the processor."""

    summary = "the integer program in compiled loops"
    processes = "own"
    reads_slices = True

    def prepare(self) -> tuple[Pass, ...]:
        """Return no passes."""
        return ()

    def check(self, network: Graph) -> None:
        """Refuse a network of floats."""
        refuse_floats("fast", network)

    def run(self, network: Graph, data: NDArray[Any] | PreparedImages, options: RunOptions) -> Trace:
        """Run batches side by side."""
        refuse_runtime("fast", options)
        refuse_floats("fast", network)
        with needs("fast"):
            from stas_neuro.fast import run_fast

        return run_fast(
            network,
            data,
            mapping=options.mapping,
            gating=options.gating,
            record_spikes=options.record_spikes,
            record_states=options.record_states,
            progress=options.progress,
            collect=options.collect,
            kept=options.kept,
        )


class Lava(_Any):
    """One Lava process per node, or one per chip, in either of two runtimes."""

    summary = "one Lava process per node, or one per chip"
    processes = "own"

    def run(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        """Run in Lava's own runtime, or step its process models in this interpreter."""
        from stas_neuro.backends import choose_granularity

        _need_lava()
        if choose_granularity(options.granularity, network) == "chip":
            return self._by_chip(network, data, options)
        return self._by_layer(network, data, options)

    def _by_chip(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        """Run what is on the chips in the compiled loops of the backend fast."""
        if network.stage != Stage.QUANTISED:
            what = f"the graph is {network.stage}, but Lava by chip runs only integer programs"
            raise InputError(what, "run with --arithmetic fixed, or with --granularity layer")
        with needs("fast"):
            from stas_neuro.fast import FastProgram, by_chip
        from stas_neuro.exporters.lava.chip import run_chips

        program = by_chip(
            FastProgram(
                graph=network,
                mapping=options.mapping,
                gating=options.gating,
                record_spikes=options.record_spikes,
                record_states=options.record_states,
            )
        )
        return run_chips(
            network,
            program,
            data,
            replicas=program.images_at_once(len(data)),
            runtime=options.runtime,
            deadline_s=options.deadline_s,
            progress=options.progress,
        )

    def _by_layer(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        from stas_neuro.exporters.lava.run import run_lava

        return run_lava(
            network,
            data,
            mapping=options.mapping,
            gating=options.gating,
            dtype=options.dtype,
            runtime=options.runtime,
            record_spikes=options.record_spikes,
            record_states=options.record_states,
            deadline_s=options.deadline_s,
            progress=options.progress,
        )


class LavaStock:
    """The integer program as processes that come with Lava (docs/stock-lowering.md)."""

    summary = "the integer program in Lava's stock processes, at a cost in neurons"
    processes = "stock"

    def prepare(self) -> tuple[Pass, ...]:
        """Return the pass that rounds biases to values that stock synapses can carry."""
        from stas_neuro.exporters.lava.stock import RoundSynapticBiases

        return (RoundSynapticBiases(),)

    def check(self, network: Graph) -> None:
        """Raise InputError with everything that stock processes cannot express."""
        from stas_neuro.exporters.lava.stock import lower_stock

        refuse_floats("lava-stock", network)
        lower_stock(network)

    def run(self, network: Graph, data: NDArray[Any], options: RunOptions) -> Trace:
        """Lower the program to stock processes and run them; their activity is recorded."""
        refuse_runtime("lava-stock", options)
        refuse_floats("lava-stock", network)
        if options.record_states:
            raise InputError("stock processes record no states", "use the backend lava or reference")
        if options.mapping is not None:
            what = "a mapping applies to the layers of a network, not to stock processes"
            raise InputError(what, "use the backend lava, or no mapping (--no-mapping)")
        _need_lava()
        from stas_neuro.exporters.lava.stock import lower_stock, run_stock

        return run_stock(
            lower_stock(network), data, record_spikes=options.record_spikes, progress=options.progress
        )


def _need_lava() -> None:
    with needs("lava"):
        import stas_neuro.exporters.lava.lava_api  # noqa: F401 - others import it late, or in a child process
