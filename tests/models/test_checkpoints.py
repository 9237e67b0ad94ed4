"""Presets, configurations and checkpoints: what is built, read back and refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.random_models import random_config, random_model
from torch import Tensor

from stas_neuro.compiler import fold
from stas_neuro.compiler.integers import choose_scales, load_scales, save_scales
from stas_neuro.errors import InputError
from stas_neuro.models.checkpoint import TrainingRecord, load_checkpoint, load_training, save_checkpoint
from stas_neuro.models.config import (
    PRESETS,
    StasConfig,
    preset,
)
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import run_passes

Shapes = dict[str, tuple[int, ...]]


# Presets ------------------------------------------------------------------------------------------------


def released(backbone: str, depth: int, dim: int, classes: int) -> Shapes:
    """Parameters of the released classes for CIFAR that take part in a forward pass, names made ours.

    Stem: 3x3 convolutions without bias to dim/8, /4, /2, 1 channels and one more of dim (Spikformer's
    relative position, Spikingformer's fifth stage). Blocks: q, k, v (biased in Spikformer only), proj, and a
    hidden layer of 4 dim; a normalisation after each.
    """
    fifth = "rpe" if backbone == "spikformer" else "conv4"
    norm = {"rpe": "rpe_bn", "conv4": "bn4"}
    out: Shapes = {}

    def layer(name: str, norm_name: str, weight: tuple[int, ...], bias: bool) -> None:
        out[f"{name}.weight"] = weight
        if bias:
            out[f"{name}.bias"] = weight[:1]
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{norm_name}.{part}"] = weight[:1]

    channels = (3, dim // 8, dim // 4, dim // 2, dim)
    for i in range(4):
        layer(f"stem.conv{i}", f"stem.bn{i}", (channels[i + 1], channels[i], 3, 3), False)
    layer(f"stem.{fifth}", f"stem.{norm[fifth]}", (dim, dim, 3, 3), False)
    for l in range(depth):
        sizes = {name: (dim, dim) for name in ("q", "k", "v", "proj")}
        sizes |= {"fc1": (4 * dim, dim), "fc2": (dim, 4 * dim)}
        for name, weight in sizes.items():
            biased = backbone == "spikformer" or name not in "qkv"
            layer(f"blocks.{l}.{name}", f"blocks.{l}.{name}_bn", weight, biased)
    return out | {"head.weight": (classes, dim), "head.bias": (classes,)}


@pytest.mark.parametrize(
    ("name", "depth", "dim", "classes"),
    [
        ("spikformer-2-256-cifar10", 2, 256, 10),
        ("spikformer-4-384-cifar10", 4, 384, 10),
        ("spikformer-4-384-cifar100", 4, 384, 100),
        ("spikingformer-4-384-cifar10", 4, 384, 10),
        ("spikingformer-4-384-cifar100", 4, 384, 100),
    ],
)
def test_cifar_presets_have_the_released_layers(name: str, depth: int, dim: int, classes: int):
    with torch.device("meta"):
        model = StasModel(preset(name))
    ours = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert ours == released(name.split("-")[0], depth, dim, classes)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name: str):
    config = preset(name)
    assert StasConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with torch.device("meta"):
        model = StasModel(config)
    # 224 pixels in patches of 16, 32 and 28 in patches of 4, 8 and 4 in patches of 2, and frames of speech.
    assert config.tokens == {224: 196, 32: 64, 28: 49, 8: 16, 4: 4, 1: 1}[config.image_size]
    assert model.head.out_features == config.num_classes


def test_parameters_of_a_released_size():
    """Spikformer-4-384 has 9.3 million parameters."""
    with torch.device("meta"):
        model = StasModel(preset("spikformer-4-384-cifar10"))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(9.32e6, rel=0.01)


# Configuration ------------------------------------------------------------------------------------------


def test_every_reason_is_told_at_once():
    with pytest.raises(InputError) as caught:
        StasConfig(patch_size=3, heads=7, dim=60, epsilon=1.0, mean=(0.5, 0.5), std=(0.0,), classes=("a",))
    for reason in (
        "dim=60 is not a multiple of 8",
        "heads=7 does not divide dim=60",
        "patch_size=3 is not 1, 2, 4, 8 or 16",
        "epsilon=1.0 is outside [0, 1)",
        "mean has 2 values for 1 channels",
        "std=(0.0,) has a value that is not positive",
        "1 class names for num_classes=10",
    ):
        assert reason in caught.value.what
    with pytest.raises(InputError, match=r"stem='conv' is not one of one-step.*; depth=0 is not a positive"):
        StasConfig(stem="conv", depth=0)
    with pytest.raises(InputError, match="classes occur more than once: a; correct these fields"):
        StasConfig(num_classes=3, classes=("a", "b", "a"))
    with pytest.raises(InputError, match="patch_size=8 does not divide image_size=28"):
        StasConfig(patch_size=8)
    with pytest.raises(InputError, match="patch_size=32 is not 1, 2, 4, 8 or 16"):
        StasConfig(patch_size=32, image_size=32)
    with pytest.raises(InputError, match=r"there is no preset 'huge'; use one of tiny"):
        preset("huge")


NUMBERS = (None, True, -1, 0, 3, 0.5, -0.0, 10**400, 1e300, float("inf"), float("nan"))
ODD = (*NUMBERS, "", "max", {}, {"a": 1}, [], *([number] for number in NUMBERS), ["a"], [[1]], ["a"] * 10)


@pytest.mark.parametrize("key", StasConfig().to_json())
def test_any_json_is_a_configuration_or_one_error(key: str):
    for value in ODD:
        try:
            config = StasConfig.from_json({key: value}, "config.json")
        except InputError as error:
            assert error.what.startswith("config.json: "), value
        else:
            reals = [config.alpha, config.beta, config.epsilon, config.mlp_ratio, *config.mean, *config.std]
            assert np.isfinite(reals).all(), value
            assert all(isinstance(name, str) for name in config.classes), value
            assert StasConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_mistyped_key_is_told():
    with pytest.raises(InputError, match=r"^c: unknown key 'dept'; did you mean 'depth'\?$"):
        StasConfig.from_json({"dept": 1}, "c")


# Checkpoints --------------------------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path: Path):
    config = random_config({"stem": "learned"}, 8).replace(
        num_classes=2, classes=("a", "b"), in_channels=1, mean=(0.1,), std=(0.3,)
    )
    model = random_model(config, 8).float()
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config and not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def spoil_missing(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def spoil_truncated(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def spoil_nan(directory: Path) -> None:
    spoil_tensor(directory, torch.full((10, 8), float("nan")))


def spoil_shape(directory: Path) -> None:
    spoil_tensor(directory, torch.zeros(10, 9))


def spoil_tensor(directory: Path, value: Tensor) -> None:
    tensors = load_checkpoint(directory).state_dict()
    tensors["head.weight"] = value
    tensors["extra"] = tensors.pop("head.bias")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors"
    )


def spoil_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


def spoil_config_type(directory: Path) -> None:
    (directory / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, r"model\.safetensors not found; use a checkpoint directory"),
        (spoil_truncated, r"model\.safetensors: damaged or truncated"),
        (spoil_nan, r"extra is unknown; head\.bias is missing; head\.weight has NaN"),
        (spoil_shape, r"head\.weight has shape \(10, 9\), not \(10, 8\)"),
        (spoil_config, r"config\.json: is not JSON"),
        (spoil_config_type, r"config\.json: is not a JSON object"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, spoil, message: str):
    torch.manual_seed(0)
    save_checkpoint(StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4)), tmp_path)
    load_checkpoint(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def with_config(**changes: object):
    def spoil(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def with_tensor(name: str, change):
    def spoil(directory: Path) -> None:
        path = directory / "model.safetensors"
        save_file(load_file(path) | {name: change(load_file(path)[name]).contiguous()}, path)

    return spoil


def as_pipe(name: str):
    def spoil(directory: Path) -> None:
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_config(depth=2**31 - 1), "depth=2147483647 is not a positive integer of at most 1024"),
        (
            with_config(depth=1024),
            r"blocks\.1\.fc1\.bias is missing; .*; use the weights that belong to this",
        ),
        (with_config(dim=10_000_000), "dim=10000000 is not a positive integer of at most 65536"),
        (with_config(dim=65536), r"blocks\.0\.fc1\.bias has shape \(32,\), not \(262144,\)"),
        (
            with_config(mlp_ratio=2.0**28),
            r"fc1\.bias has shape \(32,\), not \(2147483648,\)|results in no hidden",
        ),
        (with_config(num_classes=2**31 - 1), r"head\.bias has shape \(10,\), not \(2147483647,\)"),
        (with_config(in_channels=2**31 - 1), r"conv0\.weight has shape \(1, 1, 3, 3\), not \(1, 2147483647"),
        (
            with_config(time_steps=10**9),
            "time_steps=1000000000 is not a positive integer of at most 1024",
        ),
        (with_config(alpha=1e40), r"config\.json: alpha: is 1e\+40"),
        (with_config(dim=2**70), r"config\.json: dim: is 1180591620717411303424, the limit for integers is"),
        (with_config(num_classes=1, classes=["\x1b[2J"]), "have unprintable characters"),
        (with_tensor("head.weight", lambda w: w.long()), r"head\.weight is I64, not torch\.float32"),
        (with_tensor("head.weight", lambda w: w.to(torch.complex64)), r"head\.weight is C64, not"),
        (with_tensor("head.weight", lambda w: w.double() * 1e300), r"head\.weight has NaN or infinite"),
        (with_tensor("head.weight", lambda w: w * 0 + 1e13), r"head\.weight has values beyond 1e\+12"),
        (as_pipe("model.safetensors"), r"model\.safetensors: damaged or truncated \(is a pipe or a device"),
        (as_pipe("config.json"), r"config\.json: is a pipe or a device"),
    ],
)
def test_what_a_checkpoint_declares_is_held_against_its_files(tmp_path: Path, spoil, message: str):
    """Before it is laid out: a model of these sizes fits no memory."""
    save_checkpoint(StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4)), tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def test_weights_of_other_precisions_are_read(tmp_path: Path):
    model = StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4))
    save_checkpoint(model, tmp_path)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        with_tensor("head.weight", lambda w, dtype=dtype: w.to(dtype))(tmp_path)
        loaded = load_checkpoint(tmp_path).head.weight
        assert torch.equal(loaded, loaded.to(dtype).float()) and loaded.dtype == torch.float32
        assert torch.allclose(loaded, model.head.weight, atol=1e-2)


def test_loading_draws_as_many_random_numbers_as_making_a_model(tmp_path: Path):
    """Training that starts from a checkpoint goes the same way whatever is checked before."""
    config = StasConfig(dim=8, heads=1, depth=2, image_size=4)
    save_checkpoint(StasModel(config), tmp_path)
    states = []
    for make in (lambda: load_checkpoint(tmp_path), lambda: StasModel(config)):
        torch.manual_seed(0)
        make()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 99}, "quantisation.json: bits is 99; fine-tune the model again"),
        ({"largest_output": -1.0}, "quantisation.json: largest_output is -1.0; fine-tune the model again"),
        ({"scales": {}}, None),
        (
            {"of_head": {"unit": 0.0}},
            "head: the given scales are not of its weights; fine-tune the model anew",
        ),
        ({"of_head": {"unit": 1e-30}}, "head: the given scales are not of its weights"),
        ({"of_head": {"exponents": [8] * 10}}, "head: the given scales are not of its weights"),
        ({"of_head": {"exponents": [2**40] * 10}}, "head: the given scales are not of its weights"),
        ({"of_head": {"exponents": [0] * 9}}, "head: the given scales are not of its weights"),
        ({"of_head": {"bias_exp": 2**53}}, "head: the given scales are not of its weights"),
        ({"of_head": {"bias_exp": 2**60}}, "quantisation.json: scales.head.bias_exp: is 1152921504606846976"),
    ],
)
def test_scales_that_no_core_has_are_refused(tmp_path: Path, changes: dict[str, Any], message: str | None):
    config = StasConfig(dim=8, heads=1, depth=1, image_size=4, time_steps=2)
    save_checkpoint(random_model(config, 3, torch.float32), tmp_path)
    graph = fold(tmp_path)
    images = np.random.default_rng(0).random((4, 1, 4, 4))
    save_scales(choose_scales(graph, images, bits=8), tmp_path)
    path = tmp_path / "quantisation.json"
    document = json.loads(path.read_text())
    document["scales"]["head"].update(changes.get("of_head", {}))
    document.update({key: value for key, value in changes.items() if key != "of_head"})
    path.write_text(json.dumps(document))

    def quantised():
        return run_passes(graph, [load_scales(tmp_path)])

    if message is None:
        quantised()
        return
    with pytest.raises(InputError, match=re.escape(message)):
        quantised()


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_names_of_wrapped_models_are_read(tmp_path: Path, wrapper: str):
    model = StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4))
    save_checkpoint(model, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({wrapper + name: tensor for name, tensor in model.state_dict().items()}, path)
    assert_same_weights(load_checkpoint(tmp_path), model)
    # Or only parts of it were wrapped.
    inner = {
        name.replace("blocks.0.", f"blocks.0.{wrapper}"): tensor for name, tensor in load_file(path).items()
    }
    save_file({name.removeprefix(wrapper): tensor for name, tensor in inner.items()}, path)
    assert_same_weights(load_checkpoint(tmp_path), model)


def assert_same_weights(loaded: StasModel, model: StasModel) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_counters_of_batches_may_be_missing(tmp_path: Path):
    model = StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4))
    save_checkpoint(model, tmp_path)
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(tensors) < len(model.state_dict())
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_weights(load_checkpoint(tmp_path), model)


def test_a_record_of_training_is_read_back(tmp_path: Path):
    model = StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4))
    record = TrainingRecord(images=9, held_out=2, split="stratified", seed=-1, held_out_sha256="0f")
    save_checkpoint(model, tmp_path, record)
    assert load_training(tmp_path) == record
    save_checkpoint(model, tmp_path)
    assert load_training(tmp_path) is None
    for text in ("{", '{"images": 9}', "[]"):
        save_file(model.state_dict(), tmp_path / "model.safetensors", {"training": text})
        with pytest.raises(InputError, match=r"model\.safetensors: metadata training: .*; copy or train it"):
            load_training(tmp_path)


def test_other_prefixes_are_named(tmp_path: Path):
    model = StasModel(StasConfig(dim=8, heads=1, depth=1, image_size=4))
    save_checkpoint(model, tmp_path)
    tensors = model.state_dict()
    for names, message in (
        (
            {f"net.model.{name}": name for name in tensors},
            "names of all tensors begin with 'net.model.'; remove",
        ),
        (
            {name: name for name in tensors} | {"module.head.bias": "head.bias"},
            "head.bias and module.head.bias are",
        ),
        ({"head.weight": "head.weight", "head.bias": "head.bias"}, "blocks.0.fc1.bias is missing"),
    ):
        save_file({name: tensors[own].clone() for name, own in names.items()}, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=re.escape(message)):
            load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path: Path):
    with pytest.raises(InputError, match=r"config\.json not found; use a checkpoint directory"):
        load_checkpoint(tmp_path / "nothing")
