"""Facts that records have to agree in before they are compared or joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.activity.record import Activity, Layer

_INPUTS = ("macs", "synops", "cpu_operations")
"""How a layer can count its input; docs/activity.md: one of them."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something in which records have to agree.

    Parameters
    ----------
    value : callable
        What a record says of it; None where it does not. Of tuples the first entry that differs is named, of
        mappings the first key that both have and that differs.
    differs : str
        Sentence about two records `{a}` and `{b}` that differ: their values `{x}` and `{y}`, and `{at}`, the
        position or key of these.
    remedy : str
        What to do about it.
    unsaid : str
        What is open where a record does not say it, as "on which images it ran"; empty where that is no loss.
    show : callable
        How a value, or the entry of one, is written.
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
        What could not be checked of a record, because it does not say it; none of others.

    Raises
    ------
    InputError
        When two differ: names both, the values and the remedy.
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
    """Say what of a record could not be checked."""
    return f"'{label}' does not say {', '.join(whats)}: this could not be checked"


def _require_same(fact: Fact, one: tuple[str, Any], other: tuple[str, Any]) -> None:
    (label, x), (second, y) = one, other
    for at, ours, theirs in _differences(x, y):
        told = fact.differs.format(
            a=f"'{label}'", b=f"'{second}'", x=fact.show(ours), y=fact.show(theirs), at=at
        )
        raise InputError(told, fact.remedy)


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
    """Tell how layers of the network count their input, as far as they had any."""
    found: dict[str, dict[str, None]] = {}
    for kind in _INPUTS:
        for row, count in zip(run.layers, run.per_layer(kind), strict=True):
            if count:
                found.setdefault(row.network_layer, {})[kind] = None
    return {name: " and ".join(kinds) for name, kinds in found.items()}


def _layer_told(layer: Layer | None) -> str:
    if layer is None:
        return "none"
    given = asdict(layer)
    optional = {field.name: field.default for field in fields(layer)}
    rest = (f"{name} {value}" for name, value in given.items() if value != optional[name] and name != "name")
    return f"{layer.name} ({', '.join(rest)})"


def _visits_told(run: Activity) -> str:
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
    differs="{a} ran another network than {b}: it has the layer {x} where that has {y}",
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
"""What runs of one network agree in, whatever its schedule and placement."""
COMPARED: tuple[Fact, ...] = (
    Fact(
        value=lambda run: run.images,
        differs="{a} covers {x} images, {b} {y}",
        remedy="run both on the same images",
    ),
    Fact(
        value=lambda run: "on cores" if run.cores else "on no cores",
        differs="{a} was run {x}, {b} {y}, so that messages and cores differ",
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
        differs="{a} tells {x} classes apart, {b} {y}",
        remedy="compare models of one task",
        unsaid="how many classes it tells apart",
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
"""What runs agree in whose difference is that of their networks, and not of how they were counted."""
JOINED: tuple[Fact, ...] = (
    Fact(
        value=lambda run: run.layers,
        differs="layer {at} of {a} is {x}, of {b} {y}",
        remedy=_ONE_NETWORK,
        show=_layer_told,
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
    Fact(value=_visits_told, differs="{a} has {x}, {b} {y}", remedy=_ONE_NETWORK),
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
"""What runs agree in that become one, image after image."""
