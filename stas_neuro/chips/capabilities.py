"""Needs of a network beyond synapses and LIF neurons, and whether a chip satisfies them.

The checker derives needs from a graph. Pricing derives them from the record of a run, which shows only the
events of that run: the network may need more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stas_neuro.activity import HALTING_KINDS, Activity, Layer, record_halts
from stas_neuro.chips.profile import MissingEntry, Profile

Severity = Literal["error", "warning", "info"]
PRODUCT_KINDS = ("SpikeMatMul", "MaskedColumnSum", "Gate", "SpikeAnd")
"""Operations that multiply two spikes."""
AS_BIASES = "compile --input-encoding bias: pixels then enter as bias currents"
ON_THE_CORES = "compile --input-encoding graded keeps it on the cores"
NO_DIVISION = "a raster or block mean-field readout does not divide"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a chip does not support, or where its results may differ.

    Parameters
    ----------
    profile : str
        The chip.
    layer : str
        Name of the node; empty for the whole network.
    resource : str
        One of `stas_neuro.checker.RESOURCES`.
    used, limit : int or str
        In the resource's unit.
    severity : str
        error (the network cannot be deployed), warning (results may differ, or costs may be high) or info.
    remedy : str
        What to do about it; empty for info.
    """

    profile: str
    layer: str
    resource: str
    used: int | str
    limit: int | str
    severity: Severity
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Need:
    """A resource that a layer needs.

    Parameters
    ----------
    layer : str
    resource : str
        spike products, soft reset, neuron programs, graded spikes or processor.
    used : int or str
        Amount; for graded spikes the largest value, or a description if it is unknown.
    avoid : str
        Remedy on a chip without the resource.
    """

    layer: str
    resource: Literal["spike products", "soft reset", "neuron programs", "graded spikes", "processor"]
    used: int | str
    avoid: str = "use another chip"


def answer(need: Need, profile: Profile) -> Finding | None:
    """Return the finding for a need; None where the chip satisfies it without restriction.

    Raises
    ------
    MissingEntry
        When the profile does not specify the capability.
    """

    def found(severity: Severity, limit: int | str, remedy: str) -> Finding:
        return Finding(
            profile=profile.name,
            layer=need.layer,
            resource=need.resource,
            used=need.used,
            limit=limit,
            severity=severity,
            remedy=remedy,
        )

    match need.resource:
        case "spike products" | "soft reset":
            able = profile.capability(need.resource.replace(" ", "_"))
            if able == "microcode":
                return found("warning", "by neuron programs", "write the program: none is public")
            return found("error", "none", need.avoid) if able == "no" else None
        case "neuron programs":
            if profile.capability("neuron_programs") == "yes":
                return found("warning", "can be written", "write the program")
            return found("error", "none", need.avoid)
        case "processor":
            if profile.capability("processor") == "yes":
                return found("warning", "outside the cores", need.avoid)
            return found("error", "none", need.avoid)
        case "graded spikes":
            if not profile.graded_spikes:
                return found("error", 1, need.avoid)
            if isinstance(need.used, int) and profile.reason("limits.graded_spike_bits") is None:
                largest = 2 ** profile.limit("graded_spike_bits") - 1
                return found("error", largest, "use another chip") if need.used > largest else None
            return None


def product_needs(layers: Sequence[Layer]) -> Iterator[Need]:
    """Yield the needs of attention, and of gates by spikes (token gates are not layers)."""
    avoid = "use another chip, or (at a high cost) a neuron for each pair of spikes that can coincide"
    for layer in layers:
        if layer.kind in PRODUCT_KINDS:
            yield Need(layer=layer.name, resource="spike products", used="needed", avoid=avoid)


def program_needs(layers: Sequence[Layer]) -> Iterator[Need]:
    """Yield the needs of halting scores, their accumulation, and the readout weighted by them."""
    halts = record_halts(layers)
    for layer in layers:
        if layer.kind in HALTING_KINDS or (layer.kind == "Readout" and halts):
            avoid = "compile with --accumulate off"
            yield Need(layer=layer.name, resource="neuron programs", used="needed", avoid=avoid)


def graded_need(layer: str, largest: int | str, *, of_image: bool = False) -> Need:
    """Return the need for integers other than 0 and 1 that reach the synapses of a layer."""
    avoid = "send each value as that number of spikes, one per hardware step, or use another chip"
    return Need(layer=layer, resource="graded spikes", used=largest, avoid=AS_BIASES if of_image else avoid)


def needs_of(activity: Activity) -> Iterator[Need]:
    """Yield the needs that the record of a run shows, by layer of the network."""
    rows: dict[str, list[int]] = {}
    for row, layer in enumerate(activity.layers):
        rows.setdefault(layer.network_layer, []).append(row)
    layers = [replace(activity.layers[own[0]], name=name) for name, own in rows.items()]
    yield from product_needs(layers)
    yield from program_needs(layers)
    counts = activity.counts
    for layer in layers:
        own = rows[layer.name]
        if layer.kind not in ("Conv2d", "Linear"):
            continue
        of_image = layer is layers[0] and layer.kind == "Conv2d"
        if counts["macs"][:, own].any():
            yield graded_need(layer.name, "real values", of_image=of_image)
        elif (counts["synops_unary"][:, own] > counts["synops"][:, own]).any():
            yield graded_need(layer.name, "integers above 1", of_image=of_image)
    for layer in layers:
        operations = counts["cpu_operations"][:, rows[layer.name]].sum(axis=(1, 2))
        if operations.any():
            avoid = NO_DIVISION if layer.kind == "Readout" else ON_THE_CORES
            most = int(operations.max())
            yield Need(layer=layer.name, resource="processor", used=most, avoid=avoid)


def shortfalls(
    activity: Activity, profile: Profile, further: Sequence[Need] = ()
) -> tuple[tuple[Finding, ...] | None, str]:
    """Find the reasons why a chip does not support the network of a run, as far as the record shows them.

    `further` are needs of the way in which it is run.

    Returns
    -------
    findings : tuple of Finding, or None
        Findings of severity error; None if it is unknown whether the chip supports the network.
    reason : str
        Why it is unknown; empty otherwise.
    """
    if (reason := profile.no_arithmetic) is not None:
        return None, reason
    found, unknown = [], ""
    for need in (*needs_of(activity), *further):
        try:
            finding = answer(need, profile)
        except MissingEntry as error:
            unknown = profile.reason(error.entry) or str(error)
            continue
        if finding is not None and finding.severity == "error":
            found.append(finding)
    return (tuple(found), "") if found or not unknown else (None, unknown)
