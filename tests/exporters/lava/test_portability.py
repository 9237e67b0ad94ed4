"""The portability statement: complete, cited, and true of the installed Lava where that can be seen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli_support import fine, make_checkpoint
from support.ir_random import HALTING, READOUTS, STEMS, Recipe, build
from support.paths import ROOT

from stas_neuro.exporters.lava.portability import (
    NOTES,
    OWN,
    RUNS_ON,
    SOURCES,
    STOCK,
    kinds_of,
    portability,
    portability_text,
    stock_portability,
    used_sources,
)
from stas_neuro.ir import Graph
from stas_neuro.passes import DelayDecisions, Quantise

DOCS = (ROOT / "docs" / "portability.md").read_text()


def program(**changes: object) -> Graph:
    recipe = replace(Recipe(norm=False, blocks=1, width=4, time_steps=2), **changes)  # type: ignore[arg-type]
    return Quantise()(build(recipe))


ROUNDED = Quantise(state_bits=20)(
    build(Recipe(norm=False, halting="off", head="mean", membrane=True, pool=False, height=24, width=24))
)


def test_every_process_has_its_statement_and_every_statement_its_process() -> None:
    graphs = [
        *(program(halting=mode, readout=readout) for mode in HALTING for readout in READOUTS),
        *(program(stem=stem) for stem in STEMS),
        program(sdsa=True, outlast=True),
        program(membrane=True),
        program(reset="subtract"),
        program(shrink="pool"),
        program(qk=True, iand=True),
        program(halting="off", head="mean"),
        ROUNDED,
        DelayDecisions(1)(program()),
        Quantise(encoding="bias")(build(Recipe(norm=False, blocks=1, time_steps=2))),
    ]
    seen = set()
    for graph in graphs:
        rows = portability(graph)
        assert [row.process for row in rows] == [node.name for node in graph.nodes]
        seen |= {row.kind for row in rows}
    assert seen == OWN.keys()


def test_claims_are_of_known_places_and_cited() -> None:
    cited = {source for claim in (*OWN.values(), *STOCK.values()) for source in claim.sources}
    assert cited | {"readme", "runconfig"} == SOURCES.keys()
    for kind, claim in (*OWN.items(), *STOCK.items()):
        assert claim.runs_on in RUNS_ON and claim.statement, kind
        assert claim.sources or claim.runs_on == "wiring", kind
    assert {claim.runs_on for claim in OWN.values()} == RUNS_ON.keys()


def test_what_a_process_is_decides_where_it_runs() -> None:
    def of(graph: Graph, name: str) -> tuple[str, str]:
        (row,) = [row for row in portability(graph) if row.process == name]
        return row.kind, row.runs_on

    assert of(program(halting="raster"), "blocks.0.q_lif") == ("LIF that waits", "microcode")
    assert of(program(halting="rectangular"), "blocks.0.q_lif") == ("LIF", "neurocore")
    assert of(program(halting="rectangular"), "readout") == ("Readout that divides", "embedded CPU")
    assert of(program(halting="raster"), "readout") == ("Readout that weighs", "microcode")
    assert of(program(halting="off"), "readout") == ("Readout", "microcode")
    assert of(program(), "blocks.0.add0") == ("Add", "neurocore")
    assert of(program(halting="off", head="mean"), "neck.mean") == ("TokenMean", "neurocore")
    assert of(ROUNDED, "neck.mean") == ("TokenMean that rounds", "microcode")
    assert of(program(), "score0") == ("HaltingScore", "not known")


def test_the_text_tells_every_kind_once_with_its_sources() -> None:
    rows = portability(program())
    text = portability_text(rows)
    for row, number in kinds_of(rows):
        assert f"| {row.kind} | {number} | {row.runs_on} |" in text
    assert sum(number for _, number in kinds_of(rows)) == len(rows)
    assert all(f"- {key}: {SOURCES[key]}" in text for key in used_sources(rows))
    assert "- learning: " in text and "- conv: " in text
    assert all(note in text for note in NOTES)
    small = portability_text(rows[:1])
    assert "- readme: " in small and "- learning: " not in small


def test_stock_processes() -> None:
    from stas_neuro.exporters.lava.stock import lower_stock, round_synaptic_biases

    graph = round_synaptic_biases(program(halting="off", fire=">", readout="mean-field"))
    pipeline = lower_stock(graph).pipeline
    rows = stock_portability(pipeline)
    assert len(rows) == len(pipeline.groups) + len(pipeline.synapses)
    kinds = {row.kind for row in rows}
    assert {"Source", "Sparse", "ProdNeuron"} <= kinds <= STOCK.keys()
    assert {row.lowering for row in rows} == {"stock"}


def test_the_docs_have_the_tables() -> None:
    for name, meaning in (*RUNS_ON.items(), *SOURCES.items()):
        assert f"| {name} | {meaning} |" in DOCS
    for kind, claim in (*OWN.items(), *STOCK.items()):
        assert f"| {kind} | {claim.runs_on} | {claim.statement} | {', '.join(claim.sources)} |" in DOCS
    assert DOCS.count("\n| ") == len(RUNS_ON) + len(SOURCES) + len(OWN) + len(STOCK) + 4


def test_inspect_shows_it(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    fine("compile", checkpoint, "--bits", "8", "-o", tmp_path / "bundle")
    shown = fine("inspect", tmp_path / "bundle", "--portability").out
    assert re.search(r"^SpikeMatMul +2 +microcode ", shown, re.M)
    assert f"[readme] {SOURCES['readme']}" in shown
    document = fine("inspect", tmp_path / "bundle", "--portability", "--json").json
    assert {"process", "kind", "lowering", "runs_on", "statement", "sources"} == set(
        document["portability"][0]
    )
    assert document["portability_sources"]["lif"] == SOURCES["lif"]
    assert "portability" not in fine("inspect", tmp_path / "bundle", "--json").json


def test_the_installed_lava_is_as_cited() -> None:
    lava = pytest.importorskip("stas_neuro.exporters.lava.lava_api")
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.proc.conv.models import AbstractPyConvModel, PyConvModelFixed
    from lava.proc.dense.process import Dense
    from lava.proc.graded.process import GradedVec
    from lava.proc.lif.models import PyLifModelBitAcc
    from lava.proc.lif.process import LIF, LIFReset
    from lava.proc.prodneuron.process import ProdNeuron
    from lava.proc.sparse.process import Sparse

    assert lava is not None
    stock = {process.__name__ for process in (Dense, GradedVec, LIF, LIFReset, ProdNeuron, Sparse)}
    assert stock == STOCK.keys() - {"Source", "Sink"}
    assert "default to a PyProcModel" in " ".join(Loihi2HwCfg.__doc__.split())
    assert "bit-accurate" in PyLifModelBitAcc.__doc__
    # Neither model of a convolution reads its weight's exponent or width: no code of theirs names them.
    for function in (AbstractPyConvModel.run_spk, PyConvModelFixed.clamp_precision):
        assert not {"weight_exp", "num_weight_bits"} & set(function.__code__.co_names)
    root = Path(__import__("lava").__path__[0])
    paths = {
        path
        for text in SOURCES.values()
        for path in re.findall(r"lava/(?:magma|proc|networks)/\S+\.py", text)
    }
    assert paths and all((root.parent / path).is_file() for path in paths)
