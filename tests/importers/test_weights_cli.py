"""Released weights on the command line: what is compiled, what is said of it, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli_support import fine, stas
from support.foreign_models import STYLES, Foreign

import stas_neuro
from stas_neuro.bundle import load_bundle

NAME = "Spikformer, CIFAR"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("weights")
    state = dict(Foreign(STYLES[NAME], depth=1).state_dict())
    wrapped = {
        "epoch": 3,
        "state_dict": {f"module.{n}": v for n, v in state.items()},
        "state_dict_ema": state,
    }
    torch.save(wrapped, directory / "w.pth.tar")
    del state["head.bias"]
    state["block.0.attn.talking_heads.weight"] = torch.ones(2)
    torch.save(state, directory / "bad.pth")
    rng = np.random.default_rng(0)
    np.savez(directory / "images.npz", images=rng.integers(0, 256, (6, 3, 16, 16), np.uint8))
    return directory


def test_compile_says_what_was_taken(home: Path, tmp_path: Path) -> None:
    words = ("--arch", "spikformer", "--heads", "2", "--image-size", "16", "--mean", "0.5,0.25, 0.75")
    done = fine("compile", home / "w.pth.tar", *words, "-o", tmp_path / "b").out.splitlines()
    assert done[1].endswith(
        "took state_dict (torch), named as Spikformer, CIFAR, not the moving average (EMA) state_dict_ema: "
        "--ema takes it"
    )
    assert done[2:4] == ["weights: removed from names: module.", "weights: not read: epoch, state_dict_ema"]
    norms = "block.*.norm1.bias, block.*.norm1.weight, block.*.norm2.bias, block.*.norm2.weight"
    assert done[4] == f"weights: not used: *.num_batches_tracked (11), {norms}"
    assert done[5].startswith("weights: not given, taken from the published class: time-steps 4, tau 2.0")
    told = fine("compile", home / "w.pth.tar", *words, "--ema", "--json", "-o", tmp_path / "ema").json
    assert told["weights"]["entry"] == "state_dict_ema" and len(told["weights"]["unused"]) == 15
    assert told["options"]["mean"] == "0.5,0.25,0.75" and told["options"]["ema"] is True
    plain, ema = load_bundle(tmp_path / "b"), load_bundle(tmp_path / "ema")
    assert plain.graph == ema.graph == stas_neuro.replay(ema).graph


def test_the_bundle_is_run_and_verified_like_any(home: Path, tmp_path: Path) -> None:
    words = ("--arch", "spikformer", "--heads", "2", "--image-size", "16", "--bits", "8")
    data = home / "images.npz"
    fine("compile", home / "w.pth.tar", *words, "--calibrate", data, "-o", tmp_path / "b")
    told = fine("verify", tmp_path / "b", "--data", data, "--limit", "2", "--json").json
    assert told["passed"]
    left_out = told["left_out"]["torch"]
    assert left_out.endswith("w.pth.tar is a file, not a directory with a checkpoint of stas-neuro")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("w.pth.tar",), "is a file, not a directory with a checkpoint of stas-neuro; open released weights"),
        (
            ("w.pth.tar", "--heads", "2"),
            "--heads is of a file of weights, and no --arch is given; give --arch",
        ),
        (("w.pth.tar", "--ema"), "leave --ema out, or give --arch with a file of released weights"),
        (("w.pth.tar", "--arch", "spikformer", "--mean", "a,b"), "a part of 'a,b' is 'a', not a number"),
        (
            ("bad.pth", "--arch", "spikformer", "--heads", "2"),
            "1 missing: head.bias; 1 surplus: block.0.attn.ta",
        ),
    ],
)
def test_errors(words: tuple[str, ...], expected: str, home: Path, tmp_path: Path) -> None:
    done = stas("compile", home / words[0], *words[1:], "-o", tmp_path / "b")
    assert done.code == 2 and expected in done.err.splitlines()[0], done.err
    assert list(tmp_path.iterdir()) == []


def test_every_key_is_listed_below_the_error(home: Path, tmp_path: Path) -> None:
    done = stas("compile", home / "bad.pth", "--arch", "spikformer", "--heads", "2", "-o", tmp_path / "b")
    _, *lines = done.err.splitlines()
    assert lines[:2] == ["  missing: head.bias", "  surplus: block.0.attn.talking_heads.weight"]
    assert len(lines) == 2 + 15 and lines[-1] == "  unused: patch_embed.rpe_bn.num_batches_tracked"
