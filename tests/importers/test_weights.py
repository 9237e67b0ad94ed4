"""Released checkpoints by key rules: the network is that of plain torch, spike by spike."""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.foreign_models import STYLES, Foreign

import stas_neuro
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.importers.key_rules import NAMINGS
from stas_neuro.importers.weights import Weights, open_weights
from stas_neuro.ir import LIF, Graph

CIFAR = "Spikformer, CIFAR"
MEAN, STD = (0.5, 0.25, 0.75), (0.5, 0.25, 1.0)
State = dict[str, torch.Tensor]


def opened(path: Path, name: str = CIFAR, **words: Any) -> Weights:
    """Open what a `Foreign` of a style was saved to."""
    return open_weights(path, arch=STYLES[name].arch, heads=2, time_steps=3, image_size=32, **words)


def saved(path: Path, content: object, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def state(name: str = CIFAR) -> State:
    return dict(Foreign(STYLES[name]).state_dict())


def neurons(foreign: Foreign) -> dict[str, str]:
    """Our names of the neurons of a published network, in the order in which either has them."""
    spikingformer = foreign.style.arch == "spikingformer"
    stem = [f"lif{i}" for i in range(1, 5)] if spikingformer else ["lif0", "lif1", "lif2", "lif3", "rpe_lif"]
    found = dict(
        zip(
            [n for n, _ in foreign.spikes() if n.startswith("patch_embed")],
            [f"stem.{n}" for n in stem],
            strict=True,
        )
    )
    first, second = foreign.style.mlp
    for block in range(len(foreign.block)):
        for part in ("q", "k", "v", "attn"):
            found[f"block.{block}.attn.{part}_lif"] = f"blocks.{block}.{part}_lif"
        found[f"block.{block}.attn.proj_lif"] = f"blocks.{block}.{'in' if spikingformer else 'proj'}_lif"
        found[f"block.{block}.mlp.{first}_lif"] = f"blocks.{block}.fc1_lif"
        found[f"block.{block}.mlp.{second}_lif"] = f"blocks.{block}.fc2_lif"
    return found


def pixels(foreign: Foreign, seed: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    """Pixels in 0..1, and what the network sees of them."""
    rng = np.random.default_rng(seed)
    if foreign.style.events:
        frames = rng.poisson(0.4, (2, foreign.steps, 2, 32, 32)).clip(0, 4) / 4.0
        return frames, torch.from_numpy(frames)
    images = rng.integers(0, 257, (2, 3, 32, 32)) / 256.0
    seen = (images - np.reshape(MEAN, (-1, 1, 1))) / np.reshape(STD, (-1, 1, 1))
    return images, torch.from_numpy(seen)


@pytest.mark.parametrize("name", STYLES)
def test_the_network_is_that_of_plain_torch(name: str, tmp_path: Path) -> None:
    foreign = Foreign(STYLES[name], dim=32)
    path = saved(tmp_path / "weights.pth", foreign.state_dict())
    normalised = {} if foreign.style.events else {"mean": MEAN, "std": STD}
    weights = opened(path, name, **normalised)
    assert weights.report.naming == name
    bundle = stas_neuro.compile(weights)
    images, seen = pixels(foreign)
    logits = foreign.double()(seen).numpy()
    trace = stas_neuro.run(bundle, images, record_spikes=True)
    ours, fired = neurons(foreign), 0
    for theirs, spikes in foreign.spikes():
        own = trace.spikes[ours.pop(theirs)].swapaxes(0, 1)
        own = own.reshape(*own.shape[:3], -1) if own.ndim == 5 else own.swapaxes(2, 3)
        np.testing.assert_array_equal(own, spikes.numpy(), err_msg=theirs)
        fired += int(own.sum())
    assert not ours and fired > 400
    assert min(int(values.sum()) for values in trace.spikes.values()) > 0
    np.testing.assert_allclose(trace.logits, logits, rtol=0, atol=1e-9)


def test_each_known_class_is_tested() -> None:
    assert {naming.name for naming in NAMINGS} == set(STYLES)


@pytest.mark.parametrize("name", [CIFAR, "Spikingformer, CIFAR"])
def test_its_integer_program_is_the_same_on_lava(name: str, tmp_path: Path) -> None:
    foreign = Foreign(STYLES[name], depth=1)
    images, _ = pixels(foreign)
    path = saved(tmp_path / "weights.pth", foreign.state_dict())
    sample = LabelledImages(images, None, source="a sample")
    bundle = stas_neuro.compile(opened(path, name), bits=8, calibrate=sample)
    words: dict[str, Any] = {"arithmetic": "fixed", "record_spikes": True, "record_states": True}
    ours = stas_neuro.run(bundle, images, **words)
    lava = stas_neuro.run(bundle, images, backend="lava", granularity="layer", **words)
    np.testing.assert_array_equal(ours.logits, lava.logits)
    for kind in ("spikes", "states"):
        for layer, values in getattr(ours, kind).items():
            np.testing.assert_array_equal(values, getattr(lava, kind)[layer], err_msg=layer)
    assert sum(int(values.sum()) for values in ours.spikes.values()) > 1000


# Wrappings --------------------------------------------------------------------------------------------------


def _prefixed(prefix: str) -> Callable[[State], object]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def _timm(weights: State) -> object:
    other = {name: value + 1 for name, value in weights.items()}
    adam = {
        "state": {0: {"step": 3, "exp_avg": torch.zeros(4)}},
        "param_groups": [{"lr": 1e-3, "params": [0]}],
    }
    arguments = argparse.Namespace(num_heads=2, lr=0.1, drop=None, aug="rand-m9", scale=[0.5, 1.0])
    return {
        "epoch": 3,
        "arch": "spikformer",
        "state_dict": OrderedDict(weights),
        "state_dict_ema": other,
        "optimizer": adam,
        "args": arguments,
        "metric": 93.5,
    }


WRAPPINGS: dict[str, tuple[Callable[[State], object], str, tuple[str, ...]]] = {
    "plain": (lambda weights: weights, "", ()),
    "ordered": (OrderedDict, "", ()),
    "parameters": (lambda weights: {n: torch.nn.Parameter(v, False) for n, v in weights.items()}, "", ()),
    "DataParallel": (_prefixed("module."), "", ("module.",)),
    "compiled and parallel": (_prefixed("module._orig_mod."), "", ("_orig_mod.", "module.")),
    "of a larger network": (_prefixed("backbone.body."), "", ("backbone.body.",)),
    "timm": (_timm, "state_dict", ()),
    "model": (
        lambda weights: {"model": weights, "scheduler": {"milestones": Counter([3]), "seen": {1, 2}}},
        "model",
        (),
    ),
    "net": (lambda weights: {"net": weights, "acc": 93.5}, "net", ()),
    "model_state_dict": (lambda weights: {"model_state_dict": weights}, "model_state_dict", ()),
    "nested": (
        lambda weights: {"model": {"state_dict": _prefixed("module.")(weights)}},
        "model.state_dict",
        ("module.",),
    ),
    "only an average": (lambda weights: {"model_ema": weights}, "model_ema", ()),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return opened(saved(tmp_path_factory.mktemp("plain") / "w.pth", state())).graph


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings(wrapping: str, legacy: bool, plain: Graph, tmp_path: Path) -> None:
    wrap, entry, removed = WRAPPINGS[wrapping]
    path = saved(tmp_path / "w.pth.tar", wrap(state()), _use_new_zipfile_serialization=not legacy)
    weights = opened(path)
    assert weights.graph == plain
    report = weights.report
    assert (report.entry, report.removed) == (entry, removed)
    assert report.kind == ("torch, legacy" if legacy else "torch")
    assert report.averaged == (entry == "model_ema")
    if wrapping == "timm":
        assert report.averages == ("state_dict_ema",)
        assert report.beside == ("epoch", "arch", "state_dict_ema", "optimizer", "args", "metric")
        assert "state_dict_ema: --ema takes it" in report.sentences()[0]


def test_the_moving_average_is_taken_if_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", _timm(state()))
    weights = opened(path, ema=True)
    assert weights.report.entry == "state_dict_ema" and weights.report.averaged
    assert "the moving average (EMA)" in weights.report.sentences()[0]
    np.testing.assert_array_equal(weights.graph.tensors["head/weight"], state()["head.weight"] + 1)
    alone = saved(tmp_path / "alone.pth", state())
    with pytest.raises(InputError, match=r"no moving average .*; leave ema out"):
        opened(alone, ema=True)


def test_safetensors(plain: Graph, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"  # told by what it holds
    save_file({f"module.{name}": value for name, value in state().items()}, path)
    weights = opened(path)
    assert weights.graph == plain
    assert (weights.report.kind, weights.report.removed) == ("safetensors", ("module.",))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_widened_and_never_narrowed(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = state()
    for name in ("head.weight", "block.0.attn.q_bn.running_var"):
        weights[name] = (weights[name].double() * (1 + 1e-12)).to(dtype)
    graph = opened(saved(tmp_path / "w.pth", weights)).graph
    for name, own in (("head.weight", "head/weight"), ("block.0.attn.q_bn.running_var", "blocks.0.q_bn/var")):
        np.testing.assert_array_equal(graph.tensors[own], weights[name].double().numpy())
    wide = dtype == torch.float64
    assert {tensor.dtype for tensor in graph.tensors.values()} == {
        np.dtype(np.float64 if wide else np.float32)
    }


def test_views_and_shared_storages(plain: Graph, tmp_path: Path) -> None:
    weights = state()
    q, fc1 = "block.0.attn.q_linear", "block.0.mlp.fc1_linear"
    every = torch.cat(
        [weights[f"{q}.weight"].flatten(), torch.ones(3), weights[f"{fc1}.weight"].t().flatten()]
    )
    weights[f"{q}.weight"] = every[:256].view(16, 16)
    weights[f"{fc1}.weight"] = every[259:].view(16, 40).t()
    weights["block.0.norm1.weight"] = torch.ones(1).expand(16)
    assert opened(saved(tmp_path / "w.pth", weights)).graph == plain
    weights["block.1.attn.q_linear.weight"] = weights[f"{q}.weight"]
    graph = opened(saved(tmp_path / "shared.pth", weights)).graph
    np.testing.assert_array_equal(graph.tensors["blocks.1.q/weight"], graph.tensors["blocks.0.q/weight"])


def test_old_files_without_counters(plain: Graph, tmp_path: Path) -> None:
    weights = {name: value for name, value in state().items() if "num_batches" not in name}
    opened_ = opened(saved(tmp_path / "w.pth", weights))
    assert opened_.graph == plain
    norms = [
        f"block.{block}.norm{i}.{part}" for block in (0, 1) for i in (1, 2) for part in ("bias", "weight")
    ]
    assert list(opened_.report.unused) == sorted(norms)


# What no tensor shows ---------------------------------------------------------------------------------------


def lifs(graph: Graph) -> dict[str, tuple[float, float]]:
    return {node.name: (node.tau, node.threshold) for node in graph.nodes if isinstance(node, LIF)}


def test_thresholds_of_step_are_those_of_the_file(tmp_path: Path) -> None:
    name = "Spikformer of STEP, CIFAR"
    weights = state(name)
    weights["block.1.mlp.fc1_lif.threshold"] = torch.tensor([0.75])
    found = opened(saved(tmp_path / "w.pth", weights), name)
    values = lifs(found.graph)
    assert values["blocks.1.fc1_lif"] == (2.0, 0.75)
    assert values["blocks.0.fc1_lif"] == (2.0, 1.0) and values["blocks.0.attn_lif"] == (2.0, 0.5)
    assert "threshold" not in found.report.assumed
    assert "patch_embed.proj_lif.act_fun.alpha" in found.report.unused
    assert "not used: *.act_fun.alpha (19), *.num_batches_tracked (17)" in found.report.sentences()
    with pytest.raises(InputError, match="holds the thresholds of its neurons; leave these options out"):
        opened(tmp_path / "w.pth", name, threshold=0.9)
    del weights["block.0.attn.q_lif.threshold"]
    with pytest.raises(InputError, match=r"1 missing: block.0.attn.q_lif.threshold"):
        opened(saved(tmp_path / "w.pth", weights), name)


def test_options_and_what_is_assumed_without_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", state())
    plain = open_weights(path, arch="spikformer", heads=2)
    assert plain.report.assumed == {
        "time_steps": 4,
        "image_size": 32,
        "tau": 2.0,
        "attention_scale": 0.125,
        "threshold": 1.0,
        "attention_threshold": 0.5,
        "mean and std": "none, pixels are 0 to 1",
    }
    assert plain.graph.time_steps == 4 and plain.graph.input.shape == (3, 32, 32)
    given = open_weights(
        path, arch="spikformer", heads=4, time_steps=2, image_size=16, mean=MEAN, std=STD, tau=1.5,
        threshold=0.75, attention_threshold=0.25, attention_scale=0.5,
    )  # fmt: skip
    assert given.report.assumed == {}
    graph = given.graph
    assert (graph.time_steps, graph.input.shape) == (2, (3, 16, 16))
    assert (graph.preprocessing.mean, graph.preprocessing.std) == (MEAN, STD)
    values = lifs(graph)
    assert values["stem.lif0"] == (1.5, 0.75) and values["blocks.1.attn_lif"] == (1.5, 0.25)
    attention = graph.node("blocks.0.attn")
    assert (attention.heads, attention.scale) == (4, 0.5)  # type: ignore[attr-defined]


def test_a_bundle_records_the_weights_and_is_compiled_anew(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", _timm(state()))
    bundle = stas_neuro.compile(opened(path, ema=True, mean=MEAN, std=STD), bits=8)
    origin = bundle.provenance
    assert (origin.source, list(origin.source_sha256)) == (str(path), ["w.pth"])
    assert origin.options["mean"] == "0.5,0.25,0.75" and origin.options["ema"] is True
    again = stas_neuro.replay(bundle)
    assert (again.graph, again.quantised) == (bundle.graph, bundle.quantised)
    assert again.provenance == replace(origin, created=again.provenance.created)


# Refused ----------------------------------------------------------------------------------------------------


def _without(*names: str) -> Callable[[State], None]:
    def change(weights: State) -> None:
        for name in names:
            del weights[name]

    return change


def _with(name: str, make: Callable[[State], object]) -> Callable[[State], None]:
    def change(weights: State) -> None:
        weights[name] = make(weights)  # type: ignore[assignment]

    return change


Q, VAR = "block.0.attn.q_linear.weight", "block.1.attn.k_bn.running_var"
REFUSED: dict[str, tuple[Callable[[State], None], str]] = {
    "missing": (_without(Q, "head.bias"), f"2 missing: {Q}, head.bias; 25 unused: "),
    "surplus": (_with("block.0.attn.w", lambda w: w[Q]), "1 surplus: block.0.attn.w; 25 unused: "),
    "of a neuron": (_with("block.0.attn.q_lif.w", lambda w: torch.ones(())), "surplus: block.0.attn.q_lif.w"),
    "a block is missing": (
        lambda w: w.update({n.replace(".1.", ".7."): w.pop(n) for n in list(w) if n.startswith("block.1.")}),
        "missing: block.1.attn.k_bn.bias",
    ),
    "shape": (_with(Q, lambda w: w[Q][:8]), f"{Q} has shape (8, 16), not (16, 16)"),
    "axes": (_with(Q, lambda w: w[Q].unsqueeze(-1).repeat(1, 1, 3)), f"{Q} has shape (16, 16, 3), not"),
    "few axes": (_with("head.weight", lambda w: w["head.bias"]), "head.weight has shape (5,), not at"),
    "no classes": (_with("head.weight", lambda w: w["head.weight"][:0]), "num_classes=0 is not a positive"),
    "whole numbers": (_with(Q, lambda w: w[Q].long()), f"{Q} is int64, not one of float64"),
    "complex": (_with(Q, lambda w: w[Q].to(torch.complex64)), f"{Q} is complex64, not one of"),
    "truth values": (_with(Q, lambda w: w[Q] > 0), f"{Q} is bool, not one of"),
    "NaN": (_with(Q, lambda w: w[Q] * torch.nan), f"{Q} has NaN or infinite values"),
    "infinite": (_with(VAR, lambda w: w[VAR] / 0), f"{VAR} has NaN or infinite values"),
    "huge": (_with(Q, lambda w: w[Q].double() * 1e300), f"{Q} has values beyond"),
    "variance": (_with(VAR, lambda w: -w[VAR]), f"{VAR} holds a variance below 0"),
    "no tensor": (_with("epoch", lambda w: 3), "holds 1 entries that are no tensors: epoch"),
    "same name": (_with(f"module.{Q}", lambda w: w[Q]), f"holds {Q} and module.{Q}, which are both {Q}"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_are_not_those_of_the_network(case: str, tmp_path: Path) -> None:
    change, expected = REFUSED[case]
    weights = state()
    change(weights)
    with pytest.raises(InputError) as caught:
        opened(saved(tmp_path / "w.pth", weights))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/w.pth: ") and expected in message


def test_errors_list_every_key(tmp_path: Path) -> None:
    weights = state()
    _without(Q, "head.bias")(weights)
    with pytest.raises(InputError) as caught:
        opened(saved(tmp_path / "w.pth", weights))
    assert caught.value.lines[:2] == (f"missing: {Q}", "missing: head.bias")
    assert len([line for line in caught.value.lines if line.startswith("unused: ")]) == 25


@pytest.mark.parametrize("name", STYLES)
def test_the_other_architecture_is_refused(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", state(name))
    other = "spikformer" if STYLES[name].arch == "spikingformer" else "spikingformer"
    with pytest.raises(InputError, match=rf"no {other} that is known has these keys; .* (missing|surplus): "):
        open_weights(path, arch=other, heads=2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, "no arch is given; give one of spikformer, spikingformer"),
        ({"arch": "vit"}, "there is no arch 'vit'; use one of spikformer, spikingformer"),
        ({"arch": "spikformer"}, "no tensor shows the number of heads; give heads: the released models"),
        ({"arch": "spikformer", "heads": 3}, "heads=3 does not divide dim=16"),
        ({"arch": "spikformer", "heads": 2, "image_size": 30}, "patch_size=4 does not divide image_size=30"),
        ({"arch": "spikformer", "heads": 2, "mean": (0.5,)}, "mean has 1 values for 3 channels"),
        ({"arch": "spikformer", "heads": 2, "tau": 0.5}, "tau is 0.5; give a number at least 1"),
        (
            {"arch": "spikformer", "heads": 2, "threshold": float("nan")},
            "threshold is nan; give a number above 0",
        ),
    ],
)
def test_options_that_do_not_fit(words: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", state())
    with pytest.raises(InputError) as caught:
        open_weights(path, **words)
    assert expected in str(caught.value)


def test_heads_that_the_file_tells_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", _timm(state()))
    with pytest.raises(InputError, match="give heads; the arguments in the file say 2"):
        open_weights(path, arch="spikformer")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": {"a": 1}, "net": {"b": 2}}, "holds several networks (model, net)"),
        ({"epoch": 3, "lr": 0.1}, "holds 2 entries that are no tensors: epoch, lr"),
        ({}, "holds no tensors"),
        ([1, 2], "holds a list, not a dict of tensors"),
        ({"model": {"model": {"model": {"model": {"model": {}}}}}}, "more than 4 levels"),
    ],
)
def test_files_without_one_network(content: object, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(saved(tmp_path / "w.pth", content))
    assert expected in str(caught.value)


def test_halting_cannot_be_overridden(tmp_path: Path) -> None:
    weights = opened(saved(tmp_path / "w.pth", state()))
    with pytest.raises(InputError, match="has no halting to override; leave out epsilon"):
        stas_neuro.compile(weights, epsilon=0.1)
