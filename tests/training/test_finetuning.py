"""Fine-tuning of networks that were imported: what they learn is what is written, compiles and verifies."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli_support import fine, make_checkpoint, stas
from support.foreign_models import STYLES, Foreign
from support.ir_random import Recipe, build
from torch import nn

import stas_neuro
from stas_neuro import api
from stas_neuro.bundle import Bundle
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.importers.weights import Weights
from stas_neuro.ir import Linear
from stas_neuro.passes import AddHalting
from stas_neuro.reference import run_reference
from stas_neuro.training.floats import TrainableGraph
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import evaluate, split

OPTIONS: dict[str, Any] = {"batch_size": 32, "holdout": 32, "stage2_rate": 0.01, "augment": "none"}
RELEASED: dict[str, Any] = {"arch": "spikformer", "heads": 2, "image_size": 8, "time_steps": 2}


def digits(count: int = 160) -> LabelledImages:
    data = load_data("digits", "train").select(slice(0, count))
    return LabelledImages(data.images.repeat(3, axis=1), data.labels, source="digits in colour")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a Spikformer of others, its statistics those of the images; and the images."""
    directory = tmp_path_factory.mktemp("finetuning")
    network = Foreign(STYLES["Spikformer, CIFAR"], dim=16, heads=2, depth=2, hidden=16, steps=2)
    network.head = nn.Linear(16, 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
            module.momentum = None
            module.weight.data.fill_(1.5)
    data = digits()
    network.train()(torch.from_numpy(data.images / 255).float())
    torch.save(network.state_dict(), directory / "weights.pth")
    np.savez(directory / "data.npz", images=data.images, labels=data.labels)
    make_checkpoint(directory / "model")
    return directory


@pytest.fixture(scope="module")
def weights(home: Path) -> Weights:
    return stas_neuro.open_weights(home / "weights.pth", **RELEASED)


def test_an_imported_network_learns(weights: Weights, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    made = stas_neuro.train(weights, digits(), tmp_path, stage2_epochs=5, report=events.append, **OPTIONS)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event for event in events if event["event"] == "epoch"] == log
    assert log[-1]["loss"] < log[0]["loss"] - 0.05
    assert isinstance(made, Bundle)
    written = stas_neuro.load_bundle(tmp_path / "trained.zip")
    assert written.graph == made.graph and written.quantised is None
    assert written.graph.nodes == stas_neuro.fold(weights.graph).nodes
    record = written.provenance.training
    assert record is not None and record["epochs"] == 5 and record["held_out"] == 32
    before, after = (
        evaluate(TrainableGraph(graph), digits())["cross_entropy"]
        for graph in (stas_neuro.fold(weights.graph), made.graph)
    )
    assert after < before - 0.05
    with pytest.raises(InputError, match=r"was fine-tuned from .*weights\.pth, which compiling does not do"):
        stas_neuro.replay(written)


def test_ponder_weight_shortens_visits(weights: Weights, tmp_path: Path) -> None:
    ratios = []
    for weight in (0.0, 0.5):
        halting = AddHalting(mode="raster", beta=-2.0, readout="mean-field")
        words = OPTIONS | {"ponder_weight": weight, "ponder_ramp": 0.0}
        made = stas_neuro.train(
            weights, digits(), tmp_path / str(weight), halting=halting, stage2_epochs=3, **words
        )
        assert isinstance(made, Bundle) and made.graph.readout.mode == "mean-field"
        ratios.append(api.run(made, digits(40)).token_ratio)
    assert ratios[1] < ratios[0] - 0.1


def test_what_was_trained_in_integers_is_what_the_bundle_has(weights: Weights, tmp_path: Path) -> None:
    words = OPTIONS | {"stage2_epochs": 1, "bits": 5}
    halting: Any = AddHalting(mode="block", beta=-1.0)
    made = stas_neuro.train(weights, digits(64), tmp_path, halting=halting, **words)
    assert isinstance(made, Bundle) and made.quantised is not None
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    # The accuracy of the program on the images that were held out, by the integer reference.
    _, held_out = split(digits(64), TrainOptions(**OPTIONS))
    trace = run_reference(made.quantised, api.preprocess(made.quantised, held_out))
    assert (trace.predictions == held_out.labels).mean() == last["accuracy"]
    assert trace.token_ratio == pytest.approx(last["token_ratio"])
    assert made.provenance.options["bits"] == 5
    passes = [each["pass"] for each in made.provenance.passes]
    assert passes == ["FoldBatchNorm", "AddHalting", "fine-tuning", "Quantise"]


def test_layers_without_a_bias_get_none(tmp_path: Path) -> None:
    graph = build(Recipe(norm=False, bias=False, channels=1, height=8, width=8, classes=10, halting="raster"))
    data = load_data("digits", "train").select(slice(0, 64))
    graph = dataclasses.replace(graph, classes=tuple(str(number) for number in range(10)))
    made = stas_neuro.train(graph, data, tmp_path, bits=6, stage2_epochs=1, **OPTIONS)
    assert isinstance(made, Bundle) and made.quantised is not None
    for node in made.graph.of_type(Linear):
        assert (f"{node.name}/bias" in made.graph.tensors) == (node.name == "head")
        if node.name != "head":
            assert not made.quantised.tensor(node.name, "bias").any()


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(weights: Weights, tmp_path: Path) -> None:
    words: dict[str, Any] = OPTIONS | {"stage2_epochs": 2, "halting": "time"}
    whole = stas_neuro.train(weights, digits(64), tmp_path / "whole", **words)

    class Stop(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            raise Stop

    with pytest.raises(Stop):
        stas_neuro.train(weights, digits(64), tmp_path / "part", report=stop, **words)
    with pytest.raises(InputError, match="--resume it, or --force"):
        stas_neuro.train(weights, digits(64), tmp_path / "part", **words)
    with pytest.raises(InputError, match="other options, data or initial weights"):
        other = words | {"halting": "block"}
        stas_neuro.train(weights, digits(64), tmp_path / "part", resume=True, **other)
    resumed = stas_neuro.train(weights, digits(64), tmp_path / "part", resume=True, **words)
    assert isinstance(whole, Bundle) and isinstance(resumed, Bundle)
    assert resumed.graph == whole.graph


def test_commands_tune_compile_and_verify(home: Path, tmp_path: Path) -> None:
    common = (
        "train",
        "--data",
        home / "data.npz",
        "--batch-size",
        "32",
        "--holdout",
        "32",
        "--augment",
        "none",
    )
    released = ("--arch", "spikformer", "--heads", "2", "--image-size", "8", "--time-steps", "2")
    first = fine(
        *common, "--init", home / "weights.pth", *released, "--halting", "raster", "--beta", "-1",
        "--stage2-epochs", "1", "-o", tmp_path / "a",
    )  # fmt: skip
    assert f"{tmp_path / 'a/trained.zip'}: held-out accuracy" in first.out
    done = fine(
        *common, "--init", tmp_path / "a/trained.zip", "--qat", "6", "--stage2-epochs", "1",
        "-o", tmp_path / "b", "--json",
    )  # fmt: skip
    assert done.json["checkpoint"] == str(tmp_path / "b/trained.zip")
    # The same images were held out before.
    assert not [note for note in done.json["notes"] if "may have been trained" in note]
    for bundle in (tmp_path / "b/trained.zip", tmp_path / "c.stas"):
        if not bundle.exists():
            calibrated = ("--bits", "8", "--calibrate", home / "data.npz")
            fine("compile", tmp_path / "a/trained.zip", *calibrated, "-o", bundle)
        verified = fine("verify", bundle, "--data", home / "data.npz", "--limit", "2", "--json").json
        assert verified["passed"] and len(verified["parts"]) == 2
    compiled = stas_neuro.load_bundle(tmp_path / "c.stas")
    assert compiled.provenance.source == str(tmp_path / "a/trained.zip")
    assert compiled.graph.node("halting.0.score").beta == -1  # type: ignore[attr-defined]
    assert stas_neuro.replay(compiled).quantised == compiled.quantised


MODULE = """
import torch
from torch import nn
from stas_neuro.importers.neuron import Neuron

class Cell(nn.Module):
    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / 2
            spikes.append((v >= 0.5).to(v))
            v = v * (1 - spikes[-1])
        return torch.stack(spikes)

NEURONS = {Cell: Neuron(tau=2.0, threshold=0.5, fire=">=", call="sequence")}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.cell, self.head = nn.Conv2d(3, 8, 3, padding=1), Cell(), nn.Linear(8, 10)

    def forward(self, x):
        y = self.cell(self.conv(x).unsqueeze(0).repeat(2, 1, 1, 1, 1))
        return self.head(y.mean((0, 3, 4)))

def make():
    torch.manual_seed(0)
    return Net()
"""


def test_a_module_is_tuned_from_its_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    np.savez(tmp_path / "example.npz", example=digits(2).images.astype(np.float32) / 255)
    done = fine(
        "train", "--data", home / "data.npz", "--init", f"{tmp_path / 'net.py'}:make",
        "--example", tmp_path / "example.npz", "--batch-size", "32", "--holdout", "32",
        "--stage2-epochs", "1", "-o", tmp_path / "run",
    )  # fmt: skip
    assert "note: equal to the module in float64 on 2 images" in done.out
    bundle = stas_neuro.load_bundle(tmp_path / "run/trained.zip")
    assert sorted(bundle.provenance.source_sha256) == ["example.npz", "net.py"]
    assert bundle.graph.classes == tuple(str(number) for number in range(10))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--preset", "tiny", "--halting", "raster"), "--halting is of a network that exists, and --preset"),
        (("--preset", "tiny", "--arch", "spikformer"), "--arch is of a network that exists, and --preset"),
        (("--halting", "raster"), "--halting is of a network that exists; give the network as --init"),
        (("--init", "weights.pth", "--depth", "3"), "--depth is of a new model"),
        (("--init", "weights.pth", "--beta", "-1"), "--beta is of a new model"),
        (("--init", "nothing.zip"), "nothing.zip"),
        (("--init", "model", "--qat", "4", "--arch", "spikformer"), "--arch is of a network that"),
        (("--init", "model", "--qat", "4", "--time-steps", "3"), "--time-steps is of a network that is"),
        (("--init", "model", "--halting", "raster"), "is a checkpoint, which is fine-tuned only to integers"),
        (("--init", "weights.pth"), "open released weights with --arch"),
        (("--init", "weights.pth", "--dt", "1"), "--dt is given, and weights.pth is not"),
    ],
)  # fmt: skip
def test_what_it_refuses(
    arguments: tuple[str, ...], expected: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    done = stas("train", "--data", "data.npz", *arguments, "-o", tmp_path / "new")
    assert done.code == 2 and expected in done.err
    assert not (tmp_path / "new").exists()


def test_what_python_refuses(weights: Weights, tmp_path: Path) -> None:
    def refused(network: Any, data: Any = None, **words: Any) -> str:
        with pytest.raises(InputError) as caught:
            stas_neuro.train(network, digits(64) if data is None else data, tmp_path / "new", **words)
        return str(caught.value)

    assert "there is no option 'epochs'; did you mean stage2_epochs?" in refused(weights, epochs=3)
    assert "there is no halting 'often'; use one of raster" in refused(weights, halting="often", **OPTIONS)
    assert "init is of a new model" in refused(weights, init="order")
    assert "leave halting and bits" in refused("tiny", bits=4)
    gray = load_data("digits", "train").select(slice(0, 64))
    assert "the model requires (3, 8, 8)" in refused(weights, gray, **OPTIONS)
    assert "has no labels" in refused(weights, LabelledImages(digits(64).images, None, source="x"))
    assert "with holdout=40 of 40 images" in refused(
        weights, digits(40), **OPTIONS | {"batch_size": 7, "holdout": 40}
    )
    halting = AddHalting(mode="raster")(stas_neuro.fold(weights.graph))
    assert "halts already (raster)" in refused(halting, halting="block", **OPTIONS)
    assert "bfloat16 cannot represent the values of a graph" in refused(weights, bfloat16=True, **OPTIONS)
    assert not (tmp_path / "new/trained.zip").exists()
