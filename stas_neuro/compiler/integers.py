"""Quantisation of a folded graph to its integer program, and the file that stores chosen scales."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.chips import Arithmetic
from stas_neuro.choices import SCALES_FILE as SCALES_FILE
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, read_bytes, write_atomically
from stas_neuro.ir import Encoding, FixedSynaptic, FixedTokenMean, Graph
from stas_neuro.passes import WIDEST_STATE, Exponents, LayerScale, Quantise, run_passes
from stas_neuro.reference.statistics import Sample, sample_statistics

SCALES_LIMIT = 1 << 24
"""Largest size of SCALES_FILE in bytes: a channel takes 10."""
SAMPLE_IMAGES = 128
"""Number of images of a sample that are used; more do not change the scales."""


def quantise(
    graph: Graph,
    sample: LabelledImages | NDArray[Any] | None = None,
    *,
    bits: int = 8,
    arithmetic: Arithmetic | None = None,
    encoding: Encoding = "graded",
) -> Graph:
    """Lower a folded graph to integers (docs/integer.md).

    Parameters
    ----------
    graph : Graph
        A result of :func:`stas_neuro.fold`, or the graph of a bundle.
    sample : LabelledImages or array, optional
        Images to choose scales with, as for :func:`stas_neuro.run`; the first 128 are used. They should not
        be the images on which the result is evaluated. Without them, scales depend only on the weights.
    bits : int
        Bits of a weight, 2 to 9.
    arithmetic : Arithmetic, optional
        Integer formats of the chip, ``load_profile(name).arithmetic``; by default those of Loihi 2.
    encoding : "graded" or "bias"
        Send pixels as graded spikes, or the output of the first convolution as bias currents.

    Raises
    ------
    InputError
        If an option is out of range, images do not fit, or the integers of a layer do not fit a core; the
        error names it.
    """
    if arithmetic is not None:
        check_bits(bits, arithmetic)
    seen = None if sample is None else look_at(graph, sample)
    return run_passes(graph, [quantiser(seen, bits=bits, arithmetic=arithmetic, encoding=encoding)])


def choose_scales(graph: Graph, sample: LabelledImages | NDArray[Any], *, bits: int) -> Quantise:
    """Return a pass with scales chosen for a folded graph, which can quantise it after weights have changed.

    One bit of the state is left unused, so that weights may grow.
    """
    chosen = quantiser(look_at(graph, sample), bits=bits)
    quantised, units = replace(chosen, state_bits=chosen.state_bits - 1).explained(graph)
    scales = {
        node.name: replace(units[node.name].scale, bias_exp=node.bias_exp)
        for node in quantised.nodes
        if isinstance(node, FixedSynaptic)
    }
    rounded = tuple(node.name for node in quantised.of_type(FixedTokenMean) if node.x_shift)
    return replace(chosen, statistics={}, scales=scales, rounded=rounded)


def check_bits(bits: int, arithmetic: Arithmetic) -> None:
    """Raise InputError if a chip does not support weights of so many bits."""
    if bits > arithmetic.weight_bits:
        what = f"weights have {bits} bits, the chip supports up to {arithmetic.weight_bits}"
        raise InputError(what, "use fewer bits")


def look_at(graph: Graph, sample: LabelledImages | NDArray[Any]) -> Sample:
    """Return statistics of the layers of a folded graph on a sample; InputError if its images do not fit."""
    return sample_statistics(graph, api.preprocess(graph, sample, SAMPLE_IMAGES))


def quantiser(
    seen: Sample | None,
    *,
    bits: int,
    arithmetic: Arithmetic | None = None,
    encoding: Encoding = "graded",
    exponents: Exponents | None = None,
) -> Quantise:
    """Return the pass that quantises a folded graph with the statistics of a sample; see :func:`quantise`.

    `exponents` are those of the arithmetic if not given.
    """
    chosen = Quantise(bits=bits, encoding=encoding)
    if arithmetic is not None:
        bits_of_state = min(arithmetic.state_bits, WIDEST_STATE)
        chosen = replace(chosen, exponents=arithmetic.exponents, state_bits=bits_of_state)
    if exponents is not None:
        chosen = replace(chosen, exponents=exponents)
    if seen is not None:
        chosen = replace(chosen, statistics=seen.statistics, largest_output=seen.largest_output)
    return chosen


@dataclass(frozen=True)
class _Document:
    """The contents of `quantisation.json` of a fine-tuned checkpoint."""

    bits: int
    exponents: Exponents
    state_bits: int
    encoding: Encoding
    largest_output: float | None
    scales: dict[str, LayerScale]
    rounded: tuple[str, ...] = ()


def save_scales(chosen: Quantise, checkpoint: Path) -> None:
    """Write the scales that a checkpoint was fine-tuned with into its directory."""
    names = ("bits", "exponents", "state_bits", "encoding", "largest_output")
    document = {name: getattr(chosen, name) for name in names}
    # Without x_shift where it is 0, and rounded where none is: files of other networks stay as they were.
    document["scales"] = {
        name: {key: value for key, value in asdict(scale).items() if key != "x_shift" or value}
        for name, scale in chosen.scales.items()
    }
    if chosen.rounded:
        document["rounded"] = chosen.rounded
    write_atomically(checkpoint / SCALES_FILE, (json.dumps(document, indent=1) + "\n").encode())


def load_scales(checkpoint: Path) -> Quantise | None:
    """Read the scales of a checkpoint; None if it was not fine-tuned to integers.

    Raises
    ------
    InputError
        If the file is damaged, or its options are out of range.
    """
    path = checkpoint / SCALES_FILE
    if not os.path.lexists(path):
        return None
    remedy = "fine-tune the model again"
    document = parse_json(_Document, read_bytes(path, SCALES_LIMIT), str(path), remedy)
    try:
        return Quantise(**vars(document))
    except InputError as error:
        raise InputError(f"{path}: {error.what}", remedy) from error
