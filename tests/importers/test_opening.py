"""Arguments of `open_model` and `compile`: modules, files, bundles, and objects that nothing reads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.cli_support import CONFIG, fine, make_checkpoint, stas
from support.random_models import random_model

import stas_neuro
from stas_neuro.errors import InputError
from stas_neuro.importers import IMPORTERS
from stas_neuro.ir import Graph
from stas_neuro.models.stas import StasModel

CODE = """
import torch
from torch import nn
from beside import Neuron, Lif

NEURONS = {Lif: Neuron(tau=2.0, threshold=1.0)}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lif, self.head = nn.Conv2d(1, 4, 3), Lif(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lif(self.conv(x).unsqueeze(0).repeat(2, 1, 1, 1, 1)).mean((0, 3, 4)))

def make():
    torch.manual_seed(0)
    return Network()

def broken():
    raise RuntimeError("no data")

def text():
    return "text"
"""
BESIDE = """
import torch
from torch import nn
from stas_neuro.importers.neuron import Neuron

class Lif(nn.Module):
    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / 2
            spikes.append((v >= 1).to(x))
            v = v * (v < 1)
        return torch.stack(spikes)
"""
IMAGES = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32) * 4


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "beside.py").write_text(BESIDE)
    np.savez(tmp_path / "images.npz", example=IMAGES)
    return tmp_path


def test_what_is_ours_is_opened_as_it_is(tmp_path: Path) -> None:
    model = random_model(CONFIG, seed=0)
    assert stas_neuro.open_model(model) is model
    checkpoint = make_checkpoint(tmp_path / "model")
    assert isinstance(stas_neuro.open_model(checkpoint), StasModel)
    fine("compile", checkpoint, "-o", tmp_path / "b.stas")
    graph = stas_neuro.open_model(tmp_path / "b.stas")
    assert graph == stas_neuro.load_bundle(tmp_path / "b.stas").graph
    assert stas_neuro.open_model(graph) is graph
    with pytest.raises(InputError, match="example are options of an importer, and nothing is imported"):
        stas_neuro.open_model(checkpoint, example=IMAGES)


def test_a_graph_compiles_as_the_model_it_was_made_of() -> None:
    model = random_model(CONFIG, seed=0)
    graph = stas_neuro.lower(model)
    assert stas_neuro.compile(graph).graph == stas_neuro.compile(model).graph
    with pytest.raises(InputError, match="the halting of a graph is fixed, and epsilon is given"):
        stas_neuro.compile(graph, epsilon=0.1)
    with pytest.raises(InputError, match="the graph is quantised already"):
        stas_neuro.compile(stas_neuro.quantise(stas_neuro.fold(model)))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_code_and_one_of_weights(code: Path, suffix: str) -> None:
    plain = stas_neuro.open_model(f"{code}/net.py:make", example=IMAGES)
    assert isinstance(plain, Graph)
    weights = {
        "module.conv.weight": torch.ones(4, 1, 3, 3),
        "module.conv.bias": torch.zeros(4),
        "module.head.weight": torch.ones(3, 4),
        "module.head.bias": torch.zeros(3),
    }
    path = code / f"w{suffix}"
    torch.save({"model": weights, "epoch": 3}, path) if suffix == ".pth" else save_file(weights, path)
    graph = stas_neuro.open_model(f"{code}/net.py:make", example=IMAGES, weights=path)
    assert isinstance(graph, Graph) and (graph.tensor("conv", "weight") == 1).all()
    assert graph.nodes == plain.nodes


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("was_run"),)


def test_weights_that_run_code_do_not(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    torch.save({"state_dict": RunsCode()}, "w.pth")
    with pytest.raises(
        InputError, match=r"w\.pth: names __builtin__\.getattr, which is no part of plain tensors"
    ):
        stas_neuro.open_model("net.py:make", example=IMAGES, weights=Path("w.pth"))
    assert not Path("was_run").exists()


def test_errors_about_files_are_one_line(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    torch.save({"conv.weight": torch.ones(1)}, "few.pth")
    torch.save([1], "list.pth")
    Path("damaged.pth").write_bytes(Path("few.pth").read_bytes()[:100])
    np.savez("other.npz", images=IMAGES)
    Path("model").touch()
    for arguments, line in (
        (("none.py:make",), "error: none.py not found; give file.py:function"),
        (("net.py:missing",), "error: net.py has no function missing; name a function without arguments"),
        (("net.py:broken",), "error: net.py:broken fails: RuntimeError: no data; correct the file"),
        (("net.py:text",), "error: net.py:text returns a str; return a torch.nn.Module"),
        (("net.py:make", "--weights", "few.pth"), "error: few.pth does not fit the module: 3 missing, 1"),
        (("net.py:make", "--weights", "list.pth"), "error: list.pth: holds a list, not a dict of tensors;"),
        (("net.py:make", "--weights", "damaged.pth"), "error: damaged.pth: is truncated, or a zip"),
        (("net.py:make", "--weights", "none.pth"), "error: none.pth: No such file"),
        (("net.py:make", "--example", "other.npz"), "error: other.npz has no array named example; write"),
        (("net.py:make", "--example", "few.pth"), "error: few.pth"),
        (("model", "--weights", "few.pth"), "error: --weights is given, and model is not file.py:function"),
    ):
        example = () if "--example" in arguments or arguments[0] == "model" else ("--example", "images.npz")
        done = stas("compile", *arguments, *example, "-o", "out.stas")
        first, *more = done.err.splitlines()
        assert done.code == 2 and first.startswith(line), done.err
        assert all(each.startswith("  ") for each in more) and bool(more) == ("missing, 1" in line), done.err
    released = ("--arch", "spikformer", "--heads", "2")
    done = stas("compile", "net.py:make", "--example", "images.npz", *released, "-o", "out.stas")
    assert done.err == (
        "error: --arch is given, and net.py:make is not a file of released weights; leave --arch out\n"
    )
    done = stas("compile", "few.pth", "--weights", "few.pth", *released, "-o", "out.stas")
    assert done.err.startswith("error: --weights is given, and few.pth is not file.py:function")
    done = stas("compile", "net.py:make", "-o", "out.stas")
    assert done.err.startswith("error: no example is given; give --example")
    assert not Path("out.stas").exists()


def test_the_help_says_when_code_is_run() -> None:
    text = " ".join(stas("compile", "--help").out.split())
    assert "the code of file.py is executed" in text and "No other MODEL is executed" in text


def test_what_nobody_reads_is_refused(tmp_path: Path) -> None:
    assert IMPORTERS.names()[:4] == ("nir", "netx", "onnx", "torch")
    with pytest.raises(
        InputError, match=r"there is no model or file 'nothing\.pb'; use one of .*, or the path"
    ):
        stas_neuro.open_model("nothing.pb")
    (strange := tmp_path / "strange.pb").write_bytes(b"a graph of something else")
    with pytest.raises(InputError, match=re.escape(f"reads {str(strange)!r}; give a checkpoint directory")):
        stas_neuro.open_model(strange)
    with pytest.raises(InputError, match="source is 3; give a torch module, a Graph, a Bundle, a StasModel"):
        stas_neuro.open_model(3)
    with pytest.raises(
        InputError,
        match=r"there is no importer 'onyx'; did you mean onnx\? Use one of nir, netx, onnx, torch",
    ):
        stas_neuro.open_model(strange, importer="onyx")
