"""From the tensors of a released checkpoint to a traced graph, through a model of ours that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stas_neuro.documents import shown
from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_model import lower
from stas_neuro.importers.key_rules import THRESHOLD, Match, match
from stas_neuro.importers.weights import WeightsOptions, WeightsReport
from stas_neuro.importers.weights_file import FLOATS, WeightsFile, open_state
from stas_neuro.importers.weights_unwrap import Taken, heads_of_args
from stas_neuro.ir import LIF, Graph, SpikeMatMul
from stas_neuro.models.checkpoint import COUNTER
from stas_neuro.models.config import ATTENTION_THRESHOLD, StasConfig
from stas_neuro.models.config import THRESHOLD as USUAL_THRESHOLD
from stas_neuro.models.stas import StasModel
from stas_neuro.models.tensors import unfit

_SHOWN = 5


@dataclass(frozen=True)
class _Facts:
    """What neither shapes nor the model's configuration say."""

    tau: float
    attention_scale: float
    threshold: float
    attention_threshold: float


def build(path: Path, options: WeightsOptions) -> tuple[Graph, WeightsReport]:
    """Make the graph of a checkpoint, and report what was taken; errors as `weights.open_weights`."""
    file, taken = open_state(path, options.ema)
    found = match({name: form.shape for name, form in taken.forms.items()}, options.arch)
    if not found.fits:
        raise _unmatched(path, options.arch, found)
    config, facts, assumed = _understood(file, taken, found, options)
    with torch.device("meta"):  # shapes without memory
        model = _with_biases(StasModel(config), found)
    _check_forms(path, model, taken, found)
    tensors, thresholds = _loaded(file, model, taken, found)
    model.load_state_dict(tensors, assign=True)
    graph = _with_neurons(lower(model.eval()), facts, thresholds)
    report = WeightsReport(
        kind=file.kind,
        entry=".".join(taken.place),
        averaged=taken.averaged,
        beside=taken.beside,
        averages=taken.averages,
        removed=taken.removed,
        naming=found.naming.name,
        unused=found.unused,
        assumed=assumed,
    )
    return graph, report


def _unmatched(path: Path, arch: str, found: Match) -> InputError:
    what = f"{path}: no {arch} that is known has these keys; as {found.naming.name}, {found}"
    error = InputError(what, "give the arch of the weights, or import the model itself")
    lists = (("missing", found.missing), ("surplus", found.surplus), ("unused", found.unused))
    error.lines = tuple(f"{what}: {shown(key, 200)}" for what, keys in lists for key in keys)
    return error


def _understood(
    file: WeightsFile, taken: Taken, found: Match, options: WeightsOptions
) -> tuple[StasConfig, _Facts, dict[str, str | int | float]]:
    """Give the configuration that shapes and options say, and what was assumed for options not given."""
    naming = found.naming
    usual: dict[str, int | float] = {
        "time_steps": naming.time_steps,
        "image_size": naming.image_size,
        "tau": naming.tau,
        "attention_scale": naming.attention_scale,
        "threshold": USUAL_THRESHOLD,
        "attention_threshold": ATTENTION_THRESHOLD,
    }
    given = {name: getattr(options, name) for name in usual}
    if found.thresholds and (given["threshold"], given["attention_threshold"]) != (None, None):
        raise InputError(f"{file.path}: holds the thresholds of its neurons", "leave these options out")
    assumed: dict[str, str | int | float] = {name: usual[name] for name in usual if given[name] is None}
    if found.thresholds:
        assumed = {name: value for name, value in assumed.items() if "threshold" not in name}
    chosen = {name: usual[name] if given[name] is None else given[name] for name in usual}
    if not options.mean and not options.std:
        assumed["mean and std"] = "none, pixels are 0 to 1"
    config = _config(file, taken, found, options, chosen)
    facts = _Facts(**{name: chosen[name] for name in _Facts.__dataclass_fields__})
    return config, facts, assumed


def _config(
    file: WeightsFile, taken: Taken, found: Match, options: WeightsOptions, chosen: Mapping[str, int | float]
) -> StasConfig:
    if options.heads is None:
        said = heads_of_args(file.content)
        remedy = "give heads: the released models for CIFAR have 12, those for ImageNet 8"
        remedy = remedy if said is None else f"give heads; the arguments in the file say {said}"
        raise InputError(f"{file.path}: no tensor shows the number of heads", remedy)
    shapes = {ours: taken.forms[theirs].shape for ours, theirs in found.theirs.items()}
    axes = {"head.weight": 2, "stem.conv0.weight": 4, "blocks.0.fc1.weight": 2}
    for ours, least in axes.items():
        if len(shapes[ours]) < least:
            what = f"{file.path}: {found.theirs[ours]} has shape {shapes[ours]}, not at least {least} axes"
            raise InputError(what, "give the weights of such a network")
    classes, dim = shapes["head.weight"][:2]
    try:
        return StasConfig(
            backbone=options.arch,
            stem="sps",
            accumulate="off",
            readout="mean-field",
            fire=">=",
            time_steps=int(chosen["time_steps"]),
            depth=found.depth,
            dim=dim,
            heads=options.heads,
            mlp_ratio=_ratio(shapes["blocks.0.fc1.weight"][0], dim),
            image_size=int(chosen["image_size"]),
            in_channels=shapes["stem.conv0.weight"][1],
            patch_size=found.naming.patch_size,
            num_classes=classes,
            event_input=found.naming.events,
            mean=options.mean,
            std=options.std,
        )
    except InputError as error:
        raise InputError(f"{file.path}: {error.what}", error.remedy) from error


def _ratio(hidden: int, dim: int) -> float:
    """Give a ratio by which `dim` becomes `hidden` when it is multiplied and rounded down."""
    ratio = hidden / max(dim, 1)
    return ratio if int(dim * ratio) >= hidden else math.nextafter(ratio, math.inf)


def _with_biases(model: StasModel, found: Match) -> StasModel:
    """Let layers have a bias where the checkpoint has one."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            biased = f"{name}.bias" in found.theirs
            module.bias = nn.Parameter(module.weight.new_empty(len(module.weight))) if biased else None
    return model


def _check_forms(path: Path, model: StasModel, taken: Taken, found: Match) -> None:
    """Refuse tensors of other shapes than the network's, or of what are no floats, before any is loaded."""
    problems = []
    for ours, theirs in found.theirs.items():
        form, wanted = taken.forms[theirs], tuple(model.state_dict()[ours].shape)
        axes = len(wanted)
        # A convolution over tokens with kernels of 1 is a linear layer.
        if form.shape[:axes] != wanted or any(length != 1 for length in form.shape[axes:]):
            problems.append(f"{theirs} has shape {form.shape}, not {wanted}")
        elif form.dtype not in FLOATS:
            problems.append(f"{theirs} is {form.dtype}, not one of {', '.join(FLOATS)}")
    for theirs in found.thresholds.values():
        form = taken.forms[theirs]
        if math.prod(form.shape) != 1 or form.dtype not in FLOATS:
            problems.append(f"{theirs} is {form.dtype} of shape {form.shape}, not one number")
    _refuse(path, problems)


def _loaded(
    file: WeightsFile, model: StasModel, taken: Taken, found: Match
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Load the tensors by our names, in float64 if any is, else in float32; and thresholds by neuron."""
    read = {**found.theirs, **found.thresholds}
    by_key = file.load(taken.place, {taken.keys[theirs] for theirs in read.values()})
    ours = {name: by_key[taken.keys[theirs]] for name, theirs in read.items()}
    problems = []
    for name, tensor in ours.items():
        problems += unfit(read[name], tensor)
        if name.endswith(".running_var") and (tensor < 0).any():
            problems.append(f"{read[name]} holds a variance below 0")
        if name in found.thresholds and not tensor.item() > 0:
            problems.append(f"{read[name]} is {tensor.item()}, not above 0")
    _refuse(file.path, problems)
    wide = any(tensor.dtype == torch.float64 for tensor in ours.values())
    dtype = torch.float64 if wide else torch.float32
    wanted = model.state_dict()
    tensors = {
        name: ours[name].to(dtype).reshape(wanted[name].shape).contiguous()
        if name in ours
        else torch.zeros((), dtype=wanted[name].dtype)
        for name in wanted
    }
    assert all(name in ours or name.endswith(COUNTER) for name in wanted)
    thresholds = {name.removesuffix(f".{THRESHOLD}"): ours[name].item() for name in found.thresholds}
    return tensors, thresholds


def _with_neurons(graph: Graph, facts: _Facts, thresholds: Mapping[str, float]) -> Graph:
    """Give neurons and attention what a model of ours does not say of them."""
    nodes = []
    for node in graph.nodes:
        if isinstance(node, LIF):
            usual = facts.attention_threshold if node.name.endswith(".attn_lif") else facts.threshold
            node = replace(node, tau=facts.tau, threshold=thresholds.get(node.name, usual))
        elif isinstance(node, SpikeMatMul):
            node = replace(node, scale=facts.attention_scale)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + (
            f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        )
        raise InputError(f"{path}: {shown}", "give the weights of such a network, finite and in floats")
