"""From a folded graph to its integer program: what scales are chosen by, and where chosen ones are kept."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.chips import Arithmetic
from stas_neuro.choices import SCALES_FILE as SCALES_FILE
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, read_bytes, write_atomically
from stas_neuro.ir import Encoding, FixedSynaptic, Graph
from stas_neuro.passes import WIDEST_STATE, LayerScale, Quantise, run_passes
from stas_neuro.reference.statistics import sample_statistics

SCALES_LIMIT = 1 << 24
"""Bytes of a SCALES_FILE: a channel takes 10."""
SAMPLE_IMAGES = 128
"""Images of a sample that are looked at: more change scales no further."""


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
        What :func:`stas_neuro.fold` gave, or the graph of a bundle.
    sample : LabelledImages or array, optional
        Images, as :func:`stas_neuro.run` takes them, to choose scales by: the first 128 of them. They should
        not be those that the result is judged by. Without it scales suit the weights alone.
    bits : int
        Of a weight, 2 to 9.
    arithmetic : Arithmetic, optional
        What integers the chip has, ``load_profile(name).arithmetic``; by default those of Loihi 2.
    encoding : "graded" or "bias"
        Whether pixels come as graded spikes, or what the first convolution makes of them as bias currents.

    Raises
    ------
    InputError
        If an option is out of range, images do not fit, or the integers of a layer do not fit a core; the
        error names it.
    """
    chosen = quantiser(graph, sample, bits=bits, arithmetic=arithmetic, encoding=encoding)
    return run_passes(graph, [chosen])


def choose_scales(graph: Graph, sample: LabelledImages | NDArray[Any], *, bits: int) -> Quantise:
    """Give the pass that quantises a folded graph with the scales that suit it, whatever weights come later.

    They leave a bit of the state free, so that weights may grow.
    """
    chosen = quantiser(graph, sample, bits=bits)
    quantised, units = replace(chosen, state_bits=chosen.state_bits - 1).explained(graph)
    scales = {
        node.name: replace(units[node.name].scale, bias_exp=node.bias_exp)
        for node in quantised.nodes
        if isinstance(node, FixedSynaptic)
    }
    return replace(chosen, statistics={}, scales=scales)


def quantiser(
    graph: Graph,
    sample: LabelledImages | NDArray[Any] | None,
    *,
    bits: int,
    arithmetic: Arithmetic | None = None,
    encoding: Encoding = "graded",
) -> Quantise:
    """Give the pass that quantises a folded graph; parameters as :func:`quantise`."""
    chosen = Quantise(bits=bits, encoding=encoding)
    if arithmetic is not None:
        if bits > arithmetic.weight_bits:
            what = f"weights of {bits} bits, the chip's have up to {arithmetic.weight_bits}"
            raise InputError(what, "use fewer bits")
        bits_of_state = min(arithmetic.state_bits, WIDEST_STATE)
        chosen = replace(chosen, exponents=arithmetic.exponents, state_bits=bits_of_state)
    if sample is not None:
        seen = sample_statistics(graph, api.preprocess(graph, sample, SAMPLE_IMAGES))
        chosen = replace(chosen, statistics=seen.statistics, largest_output=seen.largest_output)
    return chosen


@dataclass(frozen=True)
class _Document:
    """What `quantisation.json` beside a fine-tuned checkpoint says."""

    bits: int
    exponents: Literal["layer", "channel"]
    state_bits: int
    encoding: Encoding
    largest_output: float | None
    scales: dict[str, LayerScale]


def save_scales(chosen: Quantise, checkpoint: Path) -> None:
    """Write the scales that a checkpoint was fine-tuned with into its directory."""
    names = ("bits", "exponents", "state_bits", "encoding", "largest_output")
    document = {name: getattr(chosen, name) for name in names}
    document["scales"] = {name: asdict(scale) for name, scale in chosen.scales.items()}
    write_atomically(checkpoint / SCALES_FILE, (json.dumps(document, indent=1) + "\n").encode())


def load_scales(checkpoint: Path) -> Quantise | None:
    """Read them back; None where the checkpoint was not fine-tuned to integers.

    Raises
    ------
    InputError
        If the file is damaged, or its options are out of range.
    """
    path = checkpoint / SCALES_FILE
    if not os.path.lexists(path):
        return None
    remedy = "fine-tune the model anew"
    document = parse_json(_Document, read_bytes(path, SCALES_LIMIT), str(path), remedy)
    try:
        return Quantise(**vars(document))
    except InputError as error:
        raise InputError(f"{path}: {error.what}", remedy) from error
