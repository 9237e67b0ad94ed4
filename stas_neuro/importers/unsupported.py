"""Why operations that no rule lowers have none."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.importers.errors import Refused

_NONLINEAR = (
    "only neurons are nonlinear in a graph, as on a core",
    "put spiking neurons there, and train with them",
)
_WINDOW = (
    "windows are along H and W only: not along steps, of which a neuron sees one at a time, nor channels",
    "use windows along H and W",
)
_REASONS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("celu", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log"),
        _NONLINEAR,
    ),
    **dict.fromkeys(
        ("mish", "prelu", "relu", "selu", "sigmoid", "silu", "softmax", "softplus", "sqrt", "tanh"),
        _NONLINEAR,
    ),
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool3d"), _WINDOW
    ),
    **dict.fromkeys(("amax", "amin", "avg_pool3d", "conv3d", "max", "min"), _WINDOW),
}
"""Reasons and remedies by operation, without namespace, overload and the suffix of in-place operations."""


def unsupported(name: str, target: object) -> Refused:
    """Return the refusal of an operation without a rule: its name, why it has none if that is known."""
    what = f"no rule for the operation {target}"
    if name not in _REASONS:
        return Refused(what, "replace it, or train without it")
    why, remedy = _REASONS[name]
    return Refused(f"{what}: {why}", remedy)
