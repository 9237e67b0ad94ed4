"""Whole networks on Lava: the same program as the reference, in both runtimes, and ends when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from ir_random import HALTING, READOUTS, STEMS, Recipe, build, images_for, recipes

from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.failure import LavaFailure
from stas_neuro.exporters.lava.network import Layer, Network, Value, Wire
from stas_neuro.exporters.lava.run import LavaRunError, run_lava
from stas_neuro.ir import Graph
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


def assert_same_program(ours: Trace, theirs: Trace) -> None:
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert ours.spikes.keys() == theirs.spikes.keys()
    for name, spikes in theirs.spikes.items():
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
    assert ours.activity == theirs.activity


def check(graph: Graph, count: int = 3, seed: int = 0) -> Trace:
    images = images_for(graph, count, seed)
    trace = run_lava(graph, images, record_spikes=True)
    assert_same_program(trace, run_reference(graph, images, record_spikes=True))
    return trace


@pytest.mark.parametrize(("halting", "readout"), list(product(HALTING, READOUTS)))
def test_lava_is_the_reference_in_every_halting_mode_and_readout(halting: str, readout: str) -> None:
    # A network in which tokens halt apart in every mode and every neuron layer fires.
    recipe = Recipe(norm=False, halting=halting, readout=readout, blocks=3, height=6, seed=1)
    trace = check(build(replace(recipe, alpha=1.0, beta=-3.0, epsilon=0.3)))
    assert (len(np.unique(trace.visits.sum((1, 2)))) > 1) == (halting != "off")
    assert all(spikes.any() for spikes in trace.spikes.values())


@pytest.mark.parametrize(("stem", "events"), list(product(STEMS, (False, True))))
def test_lava_is_the_reference_with_every_stem(stem: str, events: bool) -> None:
    check(build(Recipe(norm=False, stem=stem, events=events, sdsa=events, membrane=not events)))


@settings(max_examples=25)
@given(recipe=recipes(norm=False))
def test_lava_is_the_reference_on_random_graphs(recipe: Recipe) -> None:
    check(build(recipe), seed=recipe.seed)


@pytest.mark.slow
@settings(max_examples=400, derandomize=False)
@given(recipe=recipes(norm=False))
def test_lava_is_the_reference_on_many_random_graphs(recipe: Recipe) -> None:
    check(build(recipe), seed=recipe.seed)


def test_single_precision_agrees_with_the_reference_but_for_rounding() -> None:
    graph = build(Recipe(norm=False))
    images = images_for(graph, 4)
    ours = run_lava(graph, images, dtype=np.float32)
    theirs = run_reference(graph, images, dtype=np.float32)
    assert ours.logits.dtype == np.float32
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    assert (ours.visits == theirs.visits).mean() > 0.99


def test_images_of_a_stream_do_not_see_each_other() -> None:
    graph = build(Recipe(norm=False, stem="learned", halting="rectangular"))
    images = images_for(graph, 4)
    stream = run_lava(graph, images, record_spikes=True)
    alone = [run_lava(graph, image[None], record_spikes=True) for image in images]
    assert_same_program(stream, Trace.concatenate(alone))


def test_progress_is_told_of_each_image() -> None:
    graph = build(Recipe(norm=False))
    heard: list[tuple[int, int]] = []
    run_lava(graph, images_for(graph, 3), progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_spikes_are_recorded_on_request_only() -> None:
    graph = build(Recipe(norm=False))
    assert not run_lava(graph, images_for(graph, 1)).spikes


@pytest.mark.parametrize(
    "images", [np.zeros((2, 2, 9, 6)), np.zeros((0, 2, 4, 6)), np.full((1, 2, 4, 6), np.nan)]
)
def test_images_that_do_not_fit_are_refused(images: np.ndarray) -> None:
    with pytest.raises(LavaRunError, match="images"):
        run_lava(build(Recipe(norm=False)), images)


def test_unknown_runtimes_are_refused() -> None:
    graph = build(Recipe(norm=False))
    with pytest.raises(LavaRunError, match="no runtime 'threads'; choose one of in-process, multiprocess"):
        run_lava(graph, images_for(graph, 1), runtime="threads")


def test_a_wire_against_the_order_is_named_not_waited_for() -> None:
    network = build_network(build(Recipe(norm=False)))
    undelayed = replace(network, wires=tuple(replace(wire, delay=0) for wire in network.wires))
    with pytest.raises(LavaFailure, match="mask_in waits for a message that nobody sends"):
        run_network(undelayed, np.zeros((1, 2, 4, 6)))


# The multi-process runtime


@needs_proc
def test_both_runtimes_give_the_same() -> None:
    graph = build(Recipe(norm=False, stem="max", blocks=1))
    images = images_for(graph, 3)
    heard: list[tuple[int, int]] = []
    ours = run_lava(
        graph,
        images,
        runtime="multiprocess",
        record_spikes=True,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert_no_session_is_left()
    other = run_lava(graph, images, record_spikes=True)
    np.testing.assert_array_equal(ours.logits, other.logits)
    assert_same_program(ours, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(norm=False, halting="rectangular", sdsa=True, membrane=True, readout="rate"),
        Recipe(norm=False, halting="time", readout="last-state", stem="late-mean", events=True),
        Recipe(norm=False, halting="block", stem="sps", blocks=3),
        Recipe(norm=False, halting="off", form="(QK^T)V", dtype="float32"),
    ],
)
def test_both_runtimes_give_the_same_in_every_mode(recipe: Recipe) -> None:
    graph = build(recipe)
    images = images_for(graph, 5)
    ours = run_lava(graph, images, runtime="multiprocess", record_spikes=True)
    assert_same_program(ours, run_lava(graph, images, record_spikes=True))


def tiny(**shapes: tuple[int, ...]) -> Network:
    """Five processes, so that Lava's runtime starts in a second; `shapes` of tensors that may be wrong."""
    rng = np.random.default_rng(0)
    return Network(
        arithmetic="float",
        time_steps=2,
        layers=(
            _layer("input", "Input", "step", {"shape": (3, 4)}, y=Value("current", (3, 4))),
            _layer("fc", "Linear", "step", {"bias": False}, y=Value("current", (3, 4))),
            _layer("readout", "Readout", "end", {"mode": "mean-field", "blocks": 1, "normalise": False},
                   y=Value("current", (4,))),
            _layer("head", "Linear", "end", {"bias": True}, y=Value("current", (2,))),
            _layer("output", "Output", "end", {}),
        ),
        wires=(
            Wire(src="input", src_port="y", dst="fc", dst_port="x"),
            Wire(src="fc", src_port="y", dst="readout", dst_port="z0"),
            Wire(src="readout", src_port="y", dst="head", dst_port="x"),
            Wire(src="head", src_port="y", dst="output", dst_port="x"),
        ),
        tensors={
            "fc/weight": rng.normal(0, 1, shapes.get("fc", (4, 4))),
            "head/weight": rng.normal(0, 1, (2, 4)),
            "head/bias": rng.normal(0, 1, shapes.get("bias", (2,))),
        },
        classes=("a", "b"),
        mean=(0.0,),
        std=(1.0,),
    )  # fmt: skip


def _layer(name: str, op: str, phase: str, params: dict[str, object], **outputs: Value) -> Layer:
    return Layer(name=name, op=op, phase=phase, params=params, outputs=outputs)


MANY = np.ones((20_000, 2, 3, 4))
"""Images for longer than any test waits."""


def members(session: int) -> list[int]:
    """Processes of a session that run or wait, zombies too: those are left behind as well."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append(int(stat.parent.name))
    return found


def sessions_of(parent: int) -> list[int]:
    """Process ids of the workers that a process started, each the leader of its session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and int(fields[3]) == int(stat.parent.name):
                found.append(int(stat.parent.name))
    return found


def assert_no_session_is_left(session: int | None = None) -> None:
    assert not sessions_of(os.getpid())
    assert session is None or not members(session)


@pytest.fixture
def shared_memory() -> Iterator[None]:
    """Fails a test that leaves shared memory behind; that of other runs on this machine goes with them."""
    before = set(Path("/dev/shm").iterdir())
    yield
    left = set(Path("/dev/shm").iterdir()) - before
    until = time.monotonic() + 30
    while (left := {path for path in left if path.exists()}) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


@needs_proc
@pytest.mark.parametrize(
    ("network", "layer", "error"),
    [
        (tiny(fc=(4, 5)), "fc", "ValueError: matmul"),  # in run_spk
        (
            replace(tiny(), tensors={**tiny().tensors, "fc/weight": np.array(["x"])}),
            "fc",
            "ValueError: could not",
        ),
    ],
    ids=["in a step", "on construction"],
)
def test_an_exception_ends_the_run_with_its_traceback(
    network: Network, layer: str, error: str, shared_memory: None
) -> None:
    with pytest.raises(ValueError, match=error.split(": ")[1]):
        run_network(network, MANY[:1])  # in process: the exception itself
    with pytest.raises(
        LavaFailure, match=rf"^{layer} raised in the multi-process runtime: {error}"
    ) as caught:
        run_network(network, MANY, runtime="multiprocess")
    assert caught.value.remedy == "--debug shows the traceback"
    assert "Traceback" in caught.value.detail and error in caught.value.detail
    assert_no_session_is_left()


def victim(session: int) -> int:
    """A process model's process: the children of a worker come after the two that Lava's channels need."""
    return sorted(members(session))[-2]


@needs_proc
def test_a_killed_process_ends_the_run(shared_memory: None) -> None:
    session = 0
    killed = 0.0

    def kill(done: int, total: int) -> None:
        nonlocal session, killed
        if done == 1:
            (session,) = sessions_of(os.getpid())
            os.kill(victim(session), signal.SIGKILL)
            killed = time.monotonic()

    with pytest.raises(LavaFailure, match=r"the process of \w+ died \(SIGKILL\)"):
        run_network(tiny(), MANY, runtime="multiprocess", progress=kill)
    assert time.monotonic() - killed < 5
    assert_no_session_is_left(session)


@needs_proc
def test_a_stalled_process_ends_the_run_at_the_deadline_and_is_named(shared_memory: None) -> None:
    session = 0
    stopped = 0.0

    def stop(done: int, total: int) -> None:
        nonlocal session, stopped
        if not session:
            (session,) = sessions_of(os.getpid())
            os.kill(victim(session), signal.SIGSTOP)
            stopped = time.monotonic()

    with pytest.raises(LavaFailure, match=r"finished nothing for 2 s, at \w+ \(does not answer\)"):
        run_network(tiny(), MANY, runtime="multiprocess", deadline_s=2.0, progress=stop)
    assert time.monotonic() - stopped < 10
    assert_no_session_is_left(session)


@pytest.mark.slow
@needs_proc
def test_a_killed_worker_ends_the_run(shared_memory: None) -> None:
    session = 0

    def kill(done: int, total: int) -> None:
        nonlocal session
        if not session:
            (session,) = sessions_of(os.getpid())
            os.kill(session, signal.SIGKILL)

    with pytest.raises(LavaFailure, match=r"the runtime ended \(SIGKILL\)"):
        run_network(tiny(), MANY, runtime="multiprocess", progress=kill)
    assert not sessions_of(os.getpid())


PARENT = """
import sys
from pathlib import Path

import numpy as np

from stas_neuro.exporters.lava.execute import run_network
from stas_neuro.exporters.lava.network import Network

images = np.ones((20_000, 2, 3, 4))
network = Network.load(Path(sys.argv[1]), checked=False)
run_network(network, images, runtime="multiprocess", progress=lambda done, total: print(done, flush=True))
"""


@needs_proc
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_session_ends_with_its_parent(
    signum: signal.Signals, tmp_path: Path, shared_memory: None
) -> None:
    tiny().save(tmp_path)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        assert parent.stdout.readline() == "1\n"
        (session,) = sessions_of(parent.pid)
        assert len(members(session)) > 5
        parent.send_signal(signum)
        errors = parent.stderr.read()
    until = time.monotonic() + 5
    while time.monotonic() < until and _running(session):
        time.sleep(0.02)
    assert not _running(session)
    if signum == signal.SIGINT:
        assert "KeyboardInterrupt" in errors


def _running(session: int) -> list[int]:
    """Members that are no zombies: of a parent that was killed, the worker has nobody to reap it but init."""
    found = []
    for pid in members(session):
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found
