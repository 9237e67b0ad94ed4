"""Run a network in all executions on the same images, and compare them batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.bundle import ARITHMETICS, Bundle, Provenance, load_bundle
from stas_neuro.compiler import fold, is_checkpoint, load_model, provenance
from stas_neuro.data import LabelledImages, as_images
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import LIF, Graph, Stage
from stas_neuro.labels import bias_of_first, match_classes
from stas_neuro.trace import Trace
from stas_neuro.verifier.agreement import INTEGER, Tally
from stas_neuro.verifier.certificate import ArithmeticCheck, DataHash, Subject, Verification
from stas_neuro.verifier.differences import differences
from stas_neuro.verifier.headroom import Watch
from stas_neuro.verifier.runs import (
    Run,
    Runs,
    fixed_baseline,
    fixed_runs,
    float_baseline,
    float_runs,
    lava_runtimes,
    torch_side,
)

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

BASELINE = "reference float64"
INTEGER_BASELINE = "reference integer"
CHOICES = ("all", *ARITHMETICS)
CHUNK = 32
"""Number of images per batch, which limits the memory for spikes and membranes."""


def verify(
    network: Bundle | Graph | StasModel | str | Path,
    images: LabelledImages | NDArray[Any],
    *,
    model: StasModel | str | Path | None = None,
    arithmetic: str = "all",
    limit: int | None = None,
    multiprocess: bool = False,
    lava_network: Graph | None = None,
    progress: api.Progress | None = None,
) -> Verification:
    """Run a network in all executions on the same images, and compare the results.

    Parameters
    ----------
    network : Bundle, Graph, StasModel, str or Path
        A path may be that of a bundle or of a checkpoint directory.
    images : LabelledImages or array
        As for :func:`stas_neuro.run`.
    model : StasModel, str or Path, optional
        The model that a bundle was compiled from, as a bundle has no torch model. Default: the checkpoint
        named in the bundle; if it is not available, torch is left out and listed in `left_out`.
    arithmetic : "all", "float" or "fixed"
        Compare only the float network or only the integer program of a bundle that has both.
    limit : int, optional
        Number of images to compare: the first ones.
    multiprocess : bool
        Run Lava's multi-process runtime, too.
    lava_network : Graph, optional
        Graph that Lava runs instead of the graph of the same arithmetic, such as that of a package, loaded by
        `exporters.lava.saved.load_network`.
    progress : callable, optional
        Called with the number of finished images and of all images.

    Raises
    ------
    InputError
        If images do not fit, labels are of unknown classes, `model` is not the model that the bundle was
        compiled from, there is no network of the arithmetic, or `lava_network` has different nodes.
    """
    opened, subject = _open(network)
    graphs = _graphs(opened, arithmetic)
    networks = _lava_networks(graphs, lava_network)
    data = as_images(images)
    for graph in graphs.values():  # refuses bad images before the long work
        api.prepare(graph, data, limit).check()
    classes = next(iter(graphs.values())).classes
    bias = None if limit is None else bias_of_first(data, limit)
    data = data.select(slice(0, limit))
    matched = match_classes(data, classes)
    left_out: dict[str, str] = {}
    sides: dict[str, _Side] = {}
    watch: Watch | None = None
    source = torch_side(opened, graphs["float"], model, left_out) if "float" in graphs else None
    runtimes = lava_runtimes(multiprocess, left_out)
    for name, graph in graphs.items():
        lava = networks[name]
        if name == "float":
            runs = float_runs(graph, lava, source, runtimes)
            sides[name] = _Side(graph, lava, BASELINE, float_baseline(graph), runs)
        else:
            watch = Watch(graph)
            runs = fixed_runs(graph, lava, runtimes)
            sides[name] = _Side(graph, lava, INTEGER_BASELINE, fixed_baseline(graph, watch), runs)
    lowering = None
    if len(sides) == 2:
        lowering = Tally(graphs["float"], "reference", INTEGER, BASELINE, promised=False)
    for start in range(0, len(data), CHUNK):
        part = matched.select(slice(start, start + CHUNK))
        bases = {name: side.compare(part, start) for name, side in sides.items()}
        if lowering is not None:
            lowering.add(bases["float"], bases["fixed"], start)
        if progress is not None:
            progress(min(start + CHUNK, len(data)), len(data))
    return Verification(
        data=DataHash.of(data),
        subject=subject,
        parts=tuple(side.part(name, data) for name, side in sides.items()),
        lowering=None if lowering is None else lowering.agreement(),
        saturation=None if watch is None else watch.saturation(),
        left_out=left_out,
        notes=() if bias is None else (bias,),
    )


def _open(network: Bundle | Graph | StasModel | str | Path) -> tuple[Bundle | Graph | StasModel, Subject]:
    """Load the network at a path, and return it with the hashes of its files."""
    origin: Provenance | None = None
    if isinstance(network, str | Path):
        if is_checkpoint(network):
            origin = provenance(network)
            network = load_model(network)
        else:
            network = load_bundle(network)
    if isinstance(network, Bundle):
        origin = network.provenance
    return network, Subject(
        source=origin.source if origin else "",
        source_sha256=origin.source_sha256 if origin else {},
        bundle_sha256=network.sha256 if isinstance(network, Bundle) else {},
    )


def _graphs(network: Bundle | Graph | StasModel, arithmetic: str) -> dict[str, Graph]:
    """Return the graphs to compare, by arithmetic."""
    if arithmetic not in CHOICES:
        raise unknown("arithmetic", arithmetic, CHOICES)
    if isinstance(network, Bundle):
        if arithmetic != "all":
            return {arithmetic: network.of(arithmetic)}
        return {name: network.of(name) for name in ARITHMETICS if name == "float" or network.quantised}
    graph = network if isinstance(network, Graph) else fold(network)
    own = _arithmetic(graph)
    if arithmetic not in ("all", own):
        what = f"there is no {arithmetic} network: a {graph.stage} graph computes in {own} arithmetic"
        raise InputError(what, "use a bundle compiled with --bits")
    return {own: graph}


def _lava_networks(graphs: Mapping[str, Graph], given: Graph | None) -> dict[str, Graph]:
    """Return the network that Lava runs for each graph: the graph itself, or the one passed for it."""
    networks = dict(graphs)
    if given is not None:
        arithmetic = _arithmetic(given)
        if arithmetic not in networks:
            what = f"Lava's network computes in {arithmetic} arithmetic, which is not compared"
            raise InputError(what, f"use one in {' or '.join(networks)} arithmetic")
        own = {node.name for node in networks[arithmetic].nodes}
        if odd := sorted(own ^ {node.name for node in given.nodes}):
            what = f"Lava's network and the graph do not have the same nodes: only one has {odd[0]}"
            raise InputError(what, "use a network exported from this graph")
        networks[arithmetic] = given
    return networks


def _arithmetic(graph: Graph) -> str:
    return "fixed" if graph.stage == Stage.QUANTISED else "float"


class _Side:
    """All executions of one graph."""

    def __init__(self, graph: Graph, network: Graph, baseline: str, execute: Run, runs: Runs) -> None:
        self.graph = graph
        self.baseline = baseline
        self.execute = execute
        self.runs = runs
        self.structure = tuple(differences(graph, network))
        # In float32 results depend on the order of summation, so no two programs have to agree.
        self.tallies = {
            (run, dtype): Tally(graph, run, dtype, baseline, promised=dtype != "float32")
            for run, dtype in runs
        }
        self.fired = {lif.name: 0 for lif in graph.of_type(LIF)}
        self.visits = self.skipped = self.correct = 0

    def compare(self, part: LabelledImages, first_image: int) -> Trace:
        """Run one batch in all executions, and return the baseline's trace."""
        base = self.execute(part)
        for name, spikes in base.spikes.items():
            self.fired[name] += int(np.count_nonzero(spikes))
        self.visits += base.visits.size
        self.skipped += int(np.count_nonzero(~base.visits))
        if part.labels is not None:
            self.correct += int(np.count_nonzero(base.predictions == part.labels))
        for key, run in self.runs.items():
            self.tallies[key].add(base, run(part), first_image)
        return base

    def part(self, arithmetic: str, data: LabelledImages) -> ArithmeticCheck:
        """Return the check over all batches."""
        return ArithmeticCheck(
            arithmetic=arithmetic,
            baseline=self.baseline,
            agreements=tuple(tally.agreement() for tally in self.tallies.values()),
            structure=self.structure,
            spikes_fired=self.fired,
            visits_skipped=self.skipped if self.graph.accumulators else None,
            token_ratio=1 - self.skipped / self.visits,
            accuracy=None if data.labels is None else self.correct / len(data),
        )
