"""The same network, cores and constants in SANA-FE and here: counts step by step, and energy.

SANA-FE is an outside program, run in a process of an environment of its own. Our side is what any run gets:
the reference counts, the mapping routes, and `estimate` prices with a profile of the catalogue.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sanafe_oracle.architecture import Architecture
from sanafe_oracle.network import HOST_GROUPS, group_name
from sanafe_oracle.package import RESULT_FILE, RUN_FILE, write_package
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.energy import Estimate, Interval, estimate
from stas_neuro.energy.timing import hardware_steps
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, read_bytes
from stas_neuro.ir import Graph, Phase, Readout
from stas_neuro.mapping import Mapping
from stas_neuro.reference import run_reference
from stas_neuro.validation.checks import Check

ENERGY_BOUND = 0.01
"""Promised of the energies that both programs know."""
_PARTS: dict[str, tuple[str, ...]] = {
    "synapses": ("synops",),
    "neurons": ("updates_active", "updates_inactive", "updates_idle"),
    "network": ("axon_messages", "hops_x", "hops_y"),
}
"""Events of an estimate by what SANA-FE calls their sum; it knows no other."""
Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A network, where it is, what it gets, and the chip."""

    name: str
    graph: Graph
    mapping: Mapping
    frames: NDArray[np.uint8]
    profile: Profile
    all_active: bool = False


@dataclass(frozen=True)
class Count:
    """Events of a kind in each step of SANA-FE, by either program."""

    quantity: str
    own: tuple[int, ...]
    theirs: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Whether all are equal."""
        return self.own == self.theirs


@dataclass(frozen=True)
class CrossCheck:
    """What both programs say of a case; `beside` are energies that only `estimate` knows, in J."""

    case: str
    counts: tuple[Count, ...]
    energies: tuple[Check, ...]
    beside: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every count is equal, and every energy within the bound."""
        return all(count.holds for count in self.counts) and all(check.holds for check in self.energies)


@dataclass(frozen=True)
class _Trace:
    """What is used of what SANA-FE tells of each step."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "ignore"}

    fired: list[int]
    updated: list[int]
    hops: list[int]
    spikes: list[int]
    synapse_energy: list[float]
    soma_energy: list[float]
    network_energy: list[float]


@dataclass(frozen=True)
class _Result:
    """`messages` are [group that sends, hops along x, along y, how many] of each step."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    steps: _Trace
    fired: list[dict[str, int]]
    messages: list[list[tuple[str, int, int, int]]]


def all_alike(profile: Profile) -> Profile:
    """Give a chip on which a neuron that has nothing to do takes what an active one takes."""
    changed = {}
    for section in ("energy", "time"):
        entries = getattr(profile, section)
        changed[section] = {**entries, "neuron_update_inactive": entries["neuron_update_active"]}
    return replace(profile, energy=changed["energy"], time=changed["time"])


def architecture_of(profile: Profile, *, all_active: bool = False) -> Architecture:
    """Give a profile's values as SANA-FE has them: a neuron's update comes on top of its access.

    Raises
    ------
    MissingEntry
        Where the profile lacks a cost.
    """

    def value(entry: str) -> float:
        return float(profile.corners(entry)[1])

    access_j, access_s = (value(f"{section}.neuron_update_inactive") for section in ("energy", "time"))
    active_j, active_s = (value(f"{section}.neuron_update_active") for section in ("energy", "time"))
    return Architecture(
        synapse_j=value("energy.synaptic_operation"),
        synapse_s=value("time.synaptic_operation"),
        access_j=access_j,
        access_s=access_s,
        update_j=active_j - access_j,
        update_s=active_s - access_s,
        message_j=value("energy.spike_message"),
        message_s=value("time.spike_message"),
        host_message_j=value("energy.io_message"),
        hop_x_j=value("energy.hop_x"),
        hop_x_s=value("time.hop_x"),
        hop_y_j=value("energy.hop_y"),
        hop_y_s=value("time.hop_y"),
        barrier_s=value("time.barrier"),
        all_active=all_active,
    )


def cross_check(case: Case, python: Path, scratch: Path) -> CrossCheck:
    """Run a case in both programs.

    Parameters
    ----------
    case : Case
    python : Path
        Interpreter of the environment that has SANA-FE.
    scratch : Path
        Directory for SANA-FE's files, which appear below it.

    Raises
    ------
    InputError
        When SANA-FE cannot say the case, is missing, or fails.
    """
    package = scratch / case.name.replace(" ", "-")
    # What input from outside takes is no figure of SANA-FE: counted by both, and priced by `estimate` only.
    costs = replace(architecture_of(case.profile, all_active=case.all_active), host_message_j=0.0)
    write_package(case.graph, case.mapping, costs, case.frames, package, force=True)
    theirs = _run_sanafe(python, package)
    trace = run_reference(case.graph, case.frames[None].astype(np.int64), mapping=case.mapping)
    own = of_model_steps(trace.activity)
    cost = estimate(own, case.profile)
    counts = _counts(case, own, cost, theirs)
    energies, beside = _energies(case, cost, theirs)
    return CrossCheck(case.name, counts, energies, beside)


def of_model_steps(activity: Activity) -> Activity:
    """Keep the rows of the model steps: SANA-FE knows neither the readout nor the head, which follow them.

    The input of the cases is binary, so that a product of it is a synaptic operation.
    """
    followed = [layer.phase == str(Phase.END) for layer in activity.layers]
    kept = followed.index(True)
    assert all(followed[kept:])  # in topological order
    counts = {kind: counted[:, :kept] for kind, counted in activity.counts.items()}
    spikes = {kind: counts[kind] + counts["macs"] for kind in ("synops", "synops_unary")}
    return Activity(
        layers=activity.layers[:kept],
        steps=activity.steps,
        counts={**counts, **spikes, "macs": np.zeros_like(counts["macs"])},
        cores=activity.cores,
    )


def _run_sanafe(python: Path, package: Path) -> _Result:
    try:
        run = subprocess.run(
            [str(python), str(package / RUN_FILE)], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise InputError(f"{python}: {error.strerror or error}", "run make oracle") from error
    if run.returncode:
        last = (run.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"SANA-FE failed on {package}: {last}", f"see what {package / RUN_FILE} prints")
    content = read_bytes(package / RESULT_FILE)
    return parse_json(_Result, content, str(package / RESULT_FILE), "use the version of uv.lock")


def _counts(case: Case, own: Activity, cost: Estimate, theirs: _Result) -> tuple[Count, ...]:
    """Compare counts step by step.

    SANA-FE counts what a spike does at its synapses in the step it is sent in, what it does in the neuron and
    what that sends one step later: here both are in one hardware step.
    """

    def ours(kind: str, *, late: bool) -> Steps:
        at = _by_hardware_step(own, kind)
        return np.concatenate([[0], at] if late else [at, [0]]).astype(np.int64)

    steps = theirs.steps
    entered = _each(theirs, lambda step: sum(n for g, n in step.items() if g.startswith(HOST_GROUPS)))
    read_out = {
        group_name(edge.src)
        for node in case.graph.of_type(Readout)
        for port, edge in case.graph.inputs(node).items()
        if port.startswith("z")
    }
    sunk = _each(theirs, lambda step: sum(n for group, n in step.items() if group in read_out))
    sent = np.array([_sent(step) for step in theirs.messages], dtype=np.int64)  # (steps, 4)
    compared = [
        ("synaptic operations", ours("synops", late=False), np.array(steps.spikes) - sunk),
        ("neurons fired", ours("spikes_out", late=True), np.array(steps.fired) - entered),
        ("messages", ours("axon_messages", late=True), sent[:, 0]),
        ("hops", ours("hops_x", late=True) + ours("hops_y", late=True), np.array(steps.hops)),
        ("hops east-west", ours("hops_x", late=True), sent[:, 1]),
        ("hops north-south", ours("hops_y", late=True), sent[:, 2]),
        ("input messages", ours("input_messages", late=False), sent[:, 3]),
    ]
    updated = np.array(steps.updated) - entered
    if case.all_active:
        stepped = sum(event.count for event in cost.events if event.event in _PARTS["neurons"])
        compared.append(("neurons updated", np.array([stepped]), updated[1:].sum(keepdims=True)))
    else:
        compared.append(("neurons active", ours("updates_active", late=True), updated))
    return tuple(Count(name, _whole(mine), _whole(other)) for name, mine, other in compared)


def _by_hardware_step(activity: Activity, kind: str) -> Steps:
    """Events of the one image in each hardware step of the fastest schedule."""
    counts = activity.counts[kind][0]
    stages = np.array([layer.stage for layer in activity.layers])
    ticks = hardware_steps(activity, "pipelined")
    return np.array([sum(int(counts[stages == stage, step].sum()) for step, stage in t.work) for t in ticks])


def _each(theirs: _Result, count: Callable[[dict[str, int]], int]) -> Steps:
    return np.array([count(step) for step in theirs.fired], dtype=np.int64)


def _sent(step: Sequence[tuple[str, int, int, int]]) -> tuple[int, int, int, int]:
    """Messages of neurons, their hops along x and y, and messages of the host, which hop nowhere."""
    neurons = [message for message in step if not message[0].startswith(HOST_GROUPS)]
    host = [message for message in step if message[0].startswith(HOST_GROUPS)]
    return (
        sum(n for _, _, _, n in neurons),
        sum(x * n for _, x, _, n in neurons),
        sum(y * n for _, _, y, n in neurons),
        sum(n for _, x, y, n in host),
    )


def _energies(case: Case, cost: Estimate, theirs: _Result) -> tuple[tuple[Check, ...], dict[str, float]]:
    """Compare energies. SANA-FE's first step is left out of its neurons': no spike has arrived before it."""
    measured = {
        "synapses": sum(theirs.steps.synapse_energy),
        "neurons": sum(theirs.steps.soma_energy[1:]),
        "network": sum(theirs.steps.network_energy),
    }
    checks = []
    total = Interval(0.0, 0.0, 0.0)
    for part, events in _PARTS.items():
        parts = [event.energy_j for event in cost.events if event.event in events]
        energy = Interval(*(sum(getattr(p, end) for p in parts) for end in ("value", "low", "high")))
        total = Interval(total.value + energy.value, total.low + energy.low, total.high + energy.high)
        checks.append(_check(case, part, energy, measured[part]))
    checks.append(_check(case, "all", total, sum(measured.values())))
    known = {event for events in _PARTS.values() for event in events}
    return tuple(checks), {e.event: e.energy_j.value for e in cost.events if e.event not in known}


def _check(case: Case, quantity: str, energy: Interval, theirs: float) -> Check:
    return Check(
        case=case.name,
        quantity=quantity,
        unit="J",
        predicted=energy,
        measured=theirs,
        promise="error",
        bound=ENERGY_BOUND,
    )


def _whole(counts: NDArray[np.generic]) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)
