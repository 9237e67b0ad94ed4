"""A Lava process for each chip: equal to the integer reference, and to one process for each layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.broken_program import BrokenProgram, SilentProgram
from support.chips_in_turn import all_on_both, on_chips
from support.cli_support import fine, make_checkpoint, make_data, stas
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.imported_network import imported_program
from support.ir_random import Recipe, build, images_for
from support.random_mappings import mappings, one_core
from support.traces import same

import stas_neuro
from stas_neuro import backends
from stas_neuro.assets import IMAGES, asset
from stas_neuro.chips import load_profile
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava import supervisor
from stas_neuro.exporters.lava.chip import ChipJob, run_chips
from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.fast import ChipsProgram, FastProgram, by_chip, chip_execution, threads
from stas_neuro.ir import Array, Graph, Stage
from stas_neuro.mapping import CoreLocation
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

RECORD: dict[str, Any] = {"record_spikes": True, "record_states": True}


def compare(graph: Graph, images: Array, replicas: int, **options: Any) -> Trace:
    """Compare the reference, the network by layer, one process for all chips, and one for each."""
    plain = run_reference(graph, images, **RECORD, **options)
    layers = run_lava(graph, images, **RECORD, **options)
    if options.get("gating", "silent") != "silent":  # membranes of halted tokens are behind on gated cores
        layers = replace(layers, states=plain.states)
    same(layers, plain)
    same(run_chips(graph, FastProgram(graph=graph, **RECORD, **options), images, replicas=replicas), plain)
    if options.get("mapping") is not None:
        divided = ChipsProgram(FastProgram(graph=graph, **RECORD, **options))
        same(run_chips(graph, divided, images, replicas=replicas), plain)
    return plain


@settings(max_examples=8)
@given(fixed_graphs(), st.integers(0, 99), st.integers(1, 4))
def test_random_integers(graph: Graph, seed: int, replicas: int) -> None:
    compare(graph, pixels_for(graph, 3, seed), replicas)


@settings(max_examples=8)
@given(st.data())
def test_random_integers_on_random_cores(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    mapping = data.draw(mappings(graph, chips=3))
    gating = data.draw(st.sampled_from(("silent", "core", "power")))
    compare(graph, pixels_for(graph, 3, 1), 2, mapping=mapping, gating=gating)


@pytest.mark.parametrize("model", ["fashion-spikformer", "fashion-spikingformer", "fashion-t1"])
def test_shipped_networks_on_gated_cores(model: str) -> None:
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset(f"models/{model}"))))
    mapping = on_chips(stas_neuro.place(graph, load_profile("loihi2")), 3)
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:5].astype(np.int64)
    plain = compare(graph, images, 2, mapping=mapping, gating="core")
    assert plain.activity.cores == mapping.cores


def test_an_imported_network() -> None:
    # The reference computes its layer with groups inside the chip.
    plain = compare(*imported_program(5), 2)
    assert all(spikes.any() for spikes in plain.spikes.values())


def test_lavas_own_runtime_gives_the_same() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, blocks=2, height=4, width=3, time_steps=3)), 1)
    images = pixels_for(graph, 5, 1)
    seen: list[tuple[int, int]] = []
    ours = run_chips(
        graph, FastProgram(graph=graph, **RECORD), images, replicas=2, runtime="multiprocess",
        deadline_s=120, progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    same(ours, run_reference(graph, images, **RECORD))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_lavas_own_runtime_runs_a_process_for_each_chip() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, blocks=2, height=4, width=3, time_steps=3)), 1)
    mapping = on_chips(stas_neuro.place(graph, load_profile("loihi2"), strategy="token-major", groups=3), 3)
    images = pixels_for(graph, 5, 1)
    program = ChipsProgram(FastProgram(graph=graph, mapping=mapping, gating="core", **RECORD))
    job = ChipJob(graph=graph, program=program, images=images.astype(np.uint8), replicas=2)
    assert job.names == ("images", "chip0", "chip1", "chip2", "logits")
    ours = run_chips(graph, program, images, replicas=2, runtime="multiprocess", deadline_s=120)
    same(ours, run_reference(graph, images, mapping=mapping, gating="core", **RECORD))
    options: dict[str, Any] = {"mapping": mapping, "gating": "core", "runtime": "multiprocess"}
    # Each sends, and receives, at every node: none waits for room that only the other can make.
    both = all_on_both(graph)
    program = ChipsProgram(FastProgram(graph=graph, mapping=both))
    ours = run_chips(graph, program, images, replicas=2, runtime="multiprocess", deadline_s=120)
    same(ours, run_reference(graph, images, mapping=both))
    several = stas_neuro.run(graph, images, backend="lava", arithmetic="fixed", **options)
    assert several.activity == run_reference(graph, images, mapping=mapping, gating="core").activity


def test_a_mapping_of_another_network_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quantised_at_random(build(Recipe(norm=False, height=4, width=3, time_steps=2)), 1)
    other = quantised_at_random(build(Recipe(norm=False, height=4, width=5, time_steps=2)), 1)
    program = ChipsProgram(FastProgram(graph=graph, mapping=all_on_both(other)))
    monkeypatch.setattr(supervisor.subprocess, "Popen", fail)
    with pytest.raises(InputError, match="the mapping holds"):
        run_chips(graph, program, pixels_for(graph, 1), replicas=1, runtime="multiprocess")


def test_the_process_of_a_single_chip_has_its_number() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, height=4, width=3, time_steps=2)), 1)
    mapping = one_core(graph)
    alone = replace(mapping, cores=(CoreLocation(chip=7),))
    listed = replace(mapping, cores=(CoreLocation(chip=7), CoreLocation(chip=9)))  # nothing is on chip 9
    for on, name in ((None, "chip0"), (alone, "chip7"), (listed, "chip7")):
        program = by_chip(FastProgram(graph=graph, mapping=on))
        images = pixels_for(graph, 1).astype(np.uint8)
        assert ChipJob(graph=graph, program=program, images=images, replicas=1).names[1:-1] == (name,)


def test_a_chip_that_fails_leaves_the_threads_of_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the error is held, whose traceback has the chips that still wait."""
    graph = quantised_at_random(build(Recipe(norm=False, height=4, width=3, time_steps=2)), 1)
    program = ChipsProgram(FastProgram(graph=graph, mapping=all_on_both(graph)))
    monkeypatch.setattr(chip_execution, "unpack", fail)
    with pytest.raises(ArithmeticError, match="on fire") as held:
        run_chips(graph, program, pixels_for(graph, 1), replicas=1)
    assert held.value and not threads._going_on


def fail(*_: object) -> None:
    raise ArithmeticError("the multiplier is on fire")


def test_a_chip_that_waits_for_a_message_that_nobody_sends_is_an_error() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, height=4, width=3, time_steps=2)), 1)
    with pytest.raises(LavaRunError, match=r"port from_chip[13] waits for a message that nobody sends"):
        run_chips(graph, SilentProgram(), pixels_for(graph, 1), replicas=1)


def test_a_failing_program_is_named_in_either_runtime() -> None:
    graph = quantised_at_random(build(Recipe(norm=False, height=4, width=3, time_steps=2)), 1)
    images = pixels_for(graph, 1)
    with pytest.raises(ArithmeticError, match="on fire"):
        run_chips(graph, BrokenProgram(), images, replicas=1)
    with pytest.raises(LavaRunError, match=r"chip3 raised in the multi-process runtime: .* on fire"):
        run_chips(graph, BrokenProgram(), images, replicas=1, runtime="multiprocess", deadline_s=120)


def test_what_is_no_integer_program_is_refused() -> None:
    graph = build(Recipe(norm=False))
    with pytest.raises(InputError, match="the graph is folded, Lava by chip runs only integer"):
        run_chips(graph, BrokenProgram(), images_for(graph, 1), replicas=1)
    integers = quantised_at_random(graph, 1)
    with pytest.raises(InputError, match="no runtime 'threads'"):
        run_chips(integers, BrokenProgram(), pixels_for(integers, 1), replicas=1, runtime="threads")
    with pytest.raises(LavaRunError, match="the network takes"):
        run_chips(integers, BrokenProgram(), pixels_for(integers, 1)[:, :, :-1], replicas=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("chip")
    make_checkpoint(home / "model")
    make_data(home / "data.npz", 4)
    options = ("--bits", "8", "--placement", "token-major", "--groups", "2")
    fine("compile", home / "model", *options, "-o", home / "net.stas")
    return home


def test_a_run_is_by_chip_for_integers_and_tells(home: Path, tmp_path: Path) -> None:
    common = ("run", home / "net.stas", "--data", home / "data.npz", "--backend", "lava", "--json")
    chosen = {
        name: fine(*common, *options, "-o", tmp_path / name).json["granularity"]
        for name, options in {
            "float": ("--no-mapping",),
            "fixed": ("--arithmetic", "fixed"),
            "layer": ("--arithmetic", "fixed", "--granularity", "layer"),
            "chip": ("--arithmetic", "fixed", "--granularity", "chip"),
        }.items()
    }
    assert chosen == {"float": "layer", "fixed": "chip", "layer": "layer", "chip": "chip"}
    records = [(tmp_path / name / "activity.json").read_bytes() for name in ("fixed", "layer", "chip")]
    assert records[0] == records[1] == records[2]


def test_a_chip_of_floats_and_other_backends_are_refused(home: Path) -> None:
    common = ("run", home / "net.stas", "--data", home / "data.npz", "--granularity", "chip", "--no-mapping")
    refused = stas(*common, "--backend", "lava")
    assert (
        "runs only integer programs; run with --arithmetic fixed, or with --granularity layer" in refused.err
    )
    for backend in ("reference", "fast", "lava-stock"):
        refused = stas(*common, "--backend", backend, "--arithmetic", "fixed")
        assert refused.code == 2 and f"the backend {backend} has no granularity chip" in refused.err


def test_without_the_fast_backend_a_run_is_by_layer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = stas_neuro.load_bundle(home / "net.stas").of("fixed")
    assert graph.stage == Stage.QUANTISED
    assert backends.choose_granularity("auto", graph) == "chip"
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backends.choose_granularity("auto", graph) == "layer"
    assert backends.choose_granularity("chip", graph) == "chip"
