"""Facts in which records must agree before they are compared or joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.activity.record import Activity, Layer

_INPUTS = ("macs", "synops", "cpu_operations")
"""Kinds that count a layer's input; each layer uses one of them (docs/activity.md)."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact in which records must agree.

    Parameters
    ----------
    value : callable
        Returns the value in a record; None where the record lacks it. For tuples the error names the first
        entry that differs, for mappings the first common key whose values differ.
    differs : str
        Template of the error about two records `{a}` and `{b}` with the values `{x}` and `{y}` at `{at}`, a
        position or key.
    remedy : str
        Remedy of the error.
    unsaid : str
        Description of the fact for records that lack it, such as "on which images it ran"; empty where no
        warning is needed.
    show : callable
        Formats a value, or an entry of one.
    """

    value: Callable[[Activity], Any]
    differs: str
    remedy: str
    unsaid: str = ""
    show: Callable[[Any], str] = str


def check_facts(runs: Mapping[str, Activity], facts: Sequence[Fact]) -> dict[str, str]:
    """Check that records, by label, agree in facts.

    Returns
    -------
    dict of label to str
        For each record that lacks facts, a sentence with the facts that could not be checked.

    Raises
    ------
    InputError
        When two records differ. The message names both, their values and the remedy.
    """
    unsaid: dict[str, list[str]] = {}
    for fact in facts:
        values = {label: fact.value(run) for label, run in runs.items()}
        known = [(label, value) for label, value in values.items() if value is not None]
        for label, value in known[1:]:
            _require_same(fact, known[0], (label, value))
        for label in (label for label, value in values.items() if value is None and fact.unsaid):
            unsaid.setdefault(label, []).append(fact.unsaid)
    if len(runs) < 2:
        return {}
    return {label: not_checked(label, *whats) for label, whats in unsaid.items()}


def not_checked(label: str, *whats: str) -> str:
    """Return the sentence that facts of a record could not be checked."""
    return f"'{label}' does not say {', '.join(whats)}: this could not be checked"


def _require_same(fact: Fact, one: tuple[str, Any], other: tuple[str, Any]) -> None:
    (label, x), (second, y) = one, other
    for at, ours, theirs in _differences(x, y):
        what = fact.differs.format(
            a=f"'{label}'", b=f"'{second}'", x=fact.show(ours), y=fact.show(theirs), at=at
        )
        raise InputError(what, fact.remedy)


def _differences(x: Any, y: Any) -> Iterator[tuple[Any, Any, Any]]:
    pairs: Iterator[tuple[Any, Any, Any]]
    if x == y:
        return
    if isinstance(x, Mapping):
        pairs = ((key, x[key], y[key]) for key in x if key in y)
    elif isinstance(x, tuple):
        pairs = ((at, *pair) for at, pair in enumerate(zip_longest(x, y)))
    else:
        pairs = iter([("", x, y)])
    yield from (found for found in pairs if found[1] != found[2])


def _inputs_counted(run: Activity) -> dict[str, str]:
    """Return the kinds by which layers of the network count their input, for layers that had input."""
    found: dict[str, dict[str, None]] = {}
    for kind in _INPUTS:
        for row, count in zip(run.layers, run.per_layer(kind), strict=True):
            if count:
                found.setdefault(row.network_layer, {})[kind] = None
    return {name: " and ".join(kinds) for name, kinds in found.items()}


def _layer_text(layer: Layer | None) -> str:
    if layer is None:
        return "none"
    given = asdict(layer)
    optional = {field.name: field.default for field in fields(layer)}
    rest = (f"{name} {value}" for name, value in given.items() if value != optional[name] and name != "name")
    return f"{layer.name} ({', '.join(rest)})"


def _visits_text(run: Activity) -> str:
    if run.visits is None:
        return "no visits"
    steps, blocks, tokens = run.visits.shape[1:]
    return f"visits of {steps} steps, {blocks} blocks and {tokens} tokens"


_ONE_NETWORK = "join runs of one network, compiled and run with the same options"
NETWORK = Fact(
    value=lambda run: run.origin.network,
    differs="{a} ran the network {x}, {b} another, {y}",
    remedy="compile both from the same checkpoint with the same options, apart from --schedule and --late",
    unsaid="which network it ran",
    show=lambda digest: str(digest)[:16],
)
STEPS = Fact(
    value=lambda run: run.steps,
    differs="step {at} of {a} is {x}, of {b} {y}",
    remedy=_ONE_NETWORK,
)
LAYER_NAMES = Fact(
    value=lambda run: tuple(sorted({(row.network_layer, row.kind) for row in run.layers})),
    differs="{a} and {b} ran different networks: {a} has the layer {x} where {b} has {y}",
    remedy=NETWORK.remedy,
    show=lambda layer: "none" if layer is None else f"{layer[0]} ({layer[1]})",
)
ARITHMETIC = Fact(
    value=lambda run: run.origin.arithmetic,
    differs="{a} was computed in {x}, {b} in {y}",
    remedy="run both with the same --arithmetic and --dtype, compiled with the same --bits",
    unsaid="in which arithmetic it was computed",
)
PROCESSES = Fact(
    value=lambda run: run.origin.processes,
    differs="{a} was counted in {x} processes, {b} in {y} ones",
    remedy="run both with the same --backend",
    unsaid="in which processes it was counted",
)

SAME_NETWORK: tuple[Fact, ...] = (NETWORK, LAYER_NAMES, STEPS)
"""Facts in which runs of one network agree, whatever its schedule and placement."""
COMPARED: tuple[Fact, ...] = (
    Fact(
        value=lambda run: run.all_images,
        differs="{a} covers {x} images, {b} {y}",
        remedy="run both on the same images",
    ),
    Fact(
        value=lambda run: "on cores" if run.cores else "without cores",
        differs="{a} was run {x}, {b} {y}, so messages and cores differ",
        remedy="compile both with --placement, or run both with --no-mapping",
    ),
    ARITHMETIC,
    PROCESSES,
    Fact(
        value=_inputs_counted,
        differs="layer {at} counts its input as {x} in {a}, as {y} in {b}",
        remedy="run both with the same --arithmetic, compiled with the same --input-encoding",
    ),
    Fact(
        value=lambda run: run.origin.classes,
        differs="{a} has {x} classes, {b} {y}",
        remedy="compare models of one task",
        unsaid="how many classes it has",
    ),
    Fact(
        value=lambda run: run.origin.images,
        differs="image {at} has the hash {x} in {a}, {y} in {b}",
        remedy="run both on the same images in the same order",
        unsaid="on which images it ran",
    ),
    Fact(
        value=lambda run: run.origin.labels,
        differs="image {at} is labelled {x} in {a}, {y} in {b}",
        remedy="run both on the same labelled images in the same order",
    ),
)
"""Facts in which compared runs agree, so that their costs differ by their networks, not by the counting."""
JOINED: tuple[Fact, ...] = (
    Fact(
        value=lambda run: run.layers,
        differs="layer {at} of {a} is {x}, of {b} {y}",
        remedy=_ONE_NETWORK,
        show=_layer_text,
    ),
    STEPS,
    Fact(
        value=lambda run: run.cores,
        differs="core {at} of {a} is at {x}, of {b} at {y}",
        remedy="join runs of one mapping",
        show=lambda site: "no place" if site is None else f"chip {site.chip}, tile {site.x},{site.y}",
    ),
    Fact(
        value=lambda run: run.late,
        differs="decisions of {a} are {x} hardware steps late, of {b} {y}",
        remedy="join runs of one schedule",
    ),
    Fact(value=_visits_text, differs="{a} has {x}, {b} {y}", remedy=_ONE_NETWORK),
    NETWORK,
    ARITHMETIC,
    PROCESSES,
    Fact(
        value=lambda run: run.origin.chip,
        differs="{a} was placed for {x}, {b} for {y}",
        remedy="join runs of one mapping",
    ),
    Fact(
        value=lambda run: run.origin.gating,
        differs="{a} was run with gating {x}, {b} with {y}",
        remedy="join runs of one --gating",
    ),
)
"""Facts in which runs agree that are joined along the image axis."""
