"""Entries of a hardware profile by section and name, with their meanings, units and allowed values."""

from __future__ import annotations

from collections.abc import Mapping

UNITS: Mapping[str, Mapping[str, float]] = {
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "fJ": 1e-15},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12},
    "power": {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "nW": 1e-9},
    "limits": {"1": 1.0, "B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "bit": 1.0},
}
"""Units allowed in each section, with their size in SI units (limits: number, bytes or bits)."""

SECTIONS = (*UNITS, "capabilities")
"""Sections of a profile that have entries."""
_EVENTS = {
    "synaptic_operation": "one spike through one synapse",
    "multiply_accumulate": "one number (a pixel) through one synapse",
    "neuron_update_active": "one stepped neuron that has input or fires",
    "neuron_update_inactive": "one stepped neuron without input that does not fire",
    "neuron_update_microcode": "one stepped neuron that has a program of its own",
    "spike_message": "one spike sent by a neuron",
    "hop_x": "one message over one tile hop, east or west",
    "hop_y": "one message over one tile hop, north or south",
    "chip_crossing": "one message from one chip to the next",
    "io_message": "one value between the host and a core",
    "state_reset": "one neuron's state cleared between images",
    "gate_message": "one message that closes or reopens a core",
    "score_lookup": "one lookup of a halting score",
    "cpu_operation": "one operation of a processor outside the cores",
}
ENTRIES: Mapping[str, str] = {
    **{f"energy.{event}": f"energy of {what}" for event, what in _EVENTS.items()},
    **{f"time.{event}": f"time of {what}" for event, what in _EVENTS.items()},
    "time.barrier": "barrier synchronisation that ends a hardware step on one chip",
    "time.barrier_multi_chip": "barrier synchronisation that ends a hardware step on several chips",
    "time.management_step": "what the processors that manage a chip add to each hardware step",
    "time.wake": "time until a gated core steps again",
    "power.static": "static power of a core or chip (see `static_scope`) that is not gated",
    "power.static_gated": "static power of a gated core",
    "power.management": "power of the processors that manage a chip, per chip",
    "limits.neurons_per_core": "neurons per core",
    "limits.synaptic_memory_per_core": "memory for weights per core",
    "limits.cores_per_chip": "cores per chip that a network can use",
    "limits.cores_per_tile": "cores that share a router of the mesh",
    "limits.tiles_x": "tiles of a chip from west to east",
    "limits.tiles_y": "tiles of a chip from north to south",
    "limits.chips": "chips of a system",
    "limits.fan_in": "synapses of one neuron",
    "limits.input_axons_per_core": "distinct inputs of a core",
    "limits.output_axons_per_core": "distinct targets of a core",
    "limits.weight_bits": "bits of a weight, including the sign",
    "limits.state_bits": "bits of a membrane and of synaptic input, including the sign",
    "limits.threshold_bits": "bits of a threshold, in units of 64 of the membrane's",
    "limits.decay_bits": "bits of the fraction of a membrane that leaks in a step",
    "limits.bias_bits": "bits of the mantissa of a bias, including the sign",
    "limits.bias_exponent": "largest power of two that a bias mantissa is multiplied by",
    "limits.graded_spike_bits": "bits of a graded spike, if `graded_spikes`",
    "capabilities.weight_exponents": "scope of the power of two that weights are multiplied by",
    "capabilities.spike_products": "whether a core can multiply two spikes, as attention requires",
    "capabilities.soft_reset": "whether a spike can lower a membrane by the threshold, instead of to 0",
    "capabilities.neuron_programs": "whether the neurons of a core can be programmed",
    "capabilities.core_gating": "whether a core can stop stepping, or be powered down, while a network runs",
    "capabilities.weight_sharing": "whether positions on one core share weights",
    "capabilities.idle_update": "whether a neuron is stepped in a hardware step that gives it no work",
    "capabilities.processor": "whether a processor outside the cores can execute operations that they cannot",
}
"""Every entry that a profile can have, "section.name", with its meaning."""
CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "weight_exponents": ("layer", "channel"),
    "spike_products": ("native", "microcode", "no"),
    "soft_reset": ("native", "microcode", "no"),
    "neuron_programs": ("yes", "no"),
    "core_gating": ("no", "core", "power"),
    "weight_sharing": ("yes", "no"),
    "idle_update": ("stepped", "skipped", "unknown"),
    "processor": ("yes", "no"),
}
"""Allowed values of each entry of the section `capabilities`."""
