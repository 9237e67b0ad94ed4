"""Fine-tuning in integers: the torch program is the integer program, and what it learns is what compiles."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli_support import fine, make_checkpoint, make_data, stas
from support.ir_random import Recipe, build
from support.random_models import covering, random_config, random_model

from stas_neuro import api, compiler
from stas_neuro.bundle import load_bundle
from stas_neuro.compiler.integers import choose_scales, save_scales
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.ir import FixedHaltingScore
from stas_neuro.models.folding import set_folded
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.training.integers import program_of

DESIGN = [choice for choice in covering() if not choice["event_input"] or choice["stem"] != "one-step"]


def images_of(model: StasModel, count: int, seed: int) -> LabelledImages:
    config = model.config
    frames = (config.time_steps,) if config.event_input else ()
    shape = (count, *frames, config.in_channels, config.image_size, config.image_size)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return LabelledImages(pixels, None, source="random")


TUNED = [number for number, choice in enumerate(DESIGN) if choice["accumulate"] != "image"]


@pytest.mark.parametrize("seed", TUNED[::3])
def test_the_program_computes_what_the_integer_reference_does(seed: int) -> None:
    model = random_model(random_config(DESIGN[seed], seed), seed, torch.float64)
    graph, images = compiler.fold(model), images_of(model, 6, seed)
    program = program_of(graph, choose_scales(graph, images, bits=2 + seed % 8))
    trace = run_reference(program.graph, api.preprocess(program.graph, images))
    output = program(torch.from_numpy(api.preprocess(graph, images)))
    assert np.array_equal(output.visits.numpy(), trace.visits)
    unit = program.graph.output.unit  # type: ignore[attr-defined]
    assert np.array_equal(np.rint(output.logits.detach().numpy() / unit), np.rint(trace.logits / unit))


def test_so_it_does_with_operations_that_no_torch_model_here_has() -> None:
    graph = build(Recipe(qk=True, iand=True, norm=False, blocks=1, seed=3))
    pixels = np.random.default_rng(0).integers(0, 256, (6, *graph.input.shape), dtype=np.uint8)
    images = LabelledImages(pixels, None, source="random")
    program = program_of(graph, choose_scales(graph, images, bits=8))
    trace = run_reference(program.graph, api.preprocess(program.graph, images), record_spikes=True)
    assert trace.spikes["blocks.0.head_lif"].any()
    output = program(torch.from_numpy(api.preprocess(graph, images)))
    assert np.array_equal(output.visits.numpy(), trace.visits)
    unit = program.graph.output.unit  # type: ignore[attr-defined]
    assert np.array_equal(np.rint(output.logits.detach().numpy() / unit), np.rint(trace.logits / unit))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(norm=False, channels=2, groups=6, oblong=True, stem="sum"),
        Recipe(norm=False, channels=3, groups=3, tau=math.inf, decay_input=False),
        Recipe(norm=False, oblong=True, tau=3.0, decay_input=False, membrane=True),
        Recipe(norm=False, membrane=True, mixed=True, halting="off", seed=4),
    ],
)
def test_the_program_computes_what_only_models_of_others_have(recipe: Recipe) -> None:
    graph = build(recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (6, *graph.input.shape))
    images = (pixels / 255 - 0.5) / 0.25
    program = program_of(graph, Quantise(5))
    trace = run_reference(program.graph, pixels, record_spikes=True)
    assert all(spikes.any() for name, spikes in trace.spikes.items() if name.startswith("stem."))
    output = program(torch.from_numpy(images))
    assert np.array_equal(output.visits.numpy(), trace.visits)
    unit = program.graph.output.unit  # type: ignore[attr-defined]
    assert np.array_equal(np.rint(output.logits.detach().numpy() / unit), np.rint(trace.logits / unit))


def test_the_program_of_chosen_scales_keeps_the_means_that_round() -> None:
    graph = build(
        Recipe(norm=False, halting="off", head="mean", membrane=True, pool=False, height=24, width=24)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, *graph.input.shape), dtype=np.uint8)
    images = LabelledImages(pixels, None, source="random")
    assert choose_scales(graph, images, bits=8).rounded == ()
    weights = {"blocks.1.fc2/weight": graph.tensors["blocks.1.fc2/weight"] * 30}
    wide = dataclasses.replace(graph, tensors=dict(graph.tensors) | weights)
    chosen = choose_scales(wide, images, bits=8)
    assert chosen.rounded == ("neck.mean",)
    program = program_of(wide, chosen)
    trace = run_reference(program.graph, api.preprocess(program.graph, images), record_spikes=True)
    assert trace.spikes["neck.lif"].any()
    output = program(torch.from_numpy(api.preprocess(wide, images)))
    unit = program.graph.output.unit  # type: ignore[attr-defined]
    assert np.array_equal(np.rint(output.logits.detach().numpy() / unit), np.rint(trace.logits / unit))


def test_halting_by_image_is_not_fine_tuned() -> None:
    model = random_model(random_config(DESIGN[1] | {"accumulate": "image"}, 1), 1)
    graph = compiler.fold(model)
    with pytest.raises(
        InputError, match=r"halting image is not fine-tuned to integers: .* with --halting image"
    ):
        program_of(graph, choose_scales(graph, images_of(model, 4, 1), bits=6))


def test_gradients_reach_every_layer() -> None:
    model = random_model(random_config(DESIGN[1] | {"accumulate": "raster", "readout": "mean-field"}, 1), 1)
    graph, images = compiler.fold(model), images_of(model, 8, 1)
    program = program_of(graph, choose_scales(graph, images, bits=6))
    output = program(torch.from_numpy(api.preprocess(graph, images)))
    loss = torch.nn.functional.cross_entropy(output.logits, torch.zeros(8, dtype=torch.long))
    (loss + output.ponder).backward()
    for name in program.names:
        layer = program.layer(name)
        assert layer.weight.grad is not None and layer.weight.grad.isfinite().all(), name
        assert layer.weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("mode", ["raster", "rectangular", "block", "time"])
def test_the_ponder_loss_is_that_of_the_model_and_has_a_gradient(mode: str) -> None:
    choice = DESIGN[1] | {"accumulate": mode, "readout": "rate", "stem": "one-step", "event_input": False}
    model = random_model(random_config(choice, 1), 1, torch.float64)
    graph, images = compiler.fold(model), images_of(model, 8, 1)
    program = program_of(graph, choose_scales(graph, images, bits=9))
    output = program(torch.from_numpy(api.preprocess(graph, images)))
    # Scores have fewer bits, and some tokens halt elsewhere.
    expected = model(torch.from_numpy(api.preprocess(graph, images))).ponder.item()
    assert output.ponder.item() == pytest.approx(expected, rel=0.1)
    output.ponder.backward()
    assert any((gradient := each.grad) is not None and gradient.any() for each in program.parameters())


TUNE = ("--stage2-epochs", "2", "--stage2-rate", "0.01", "--batch-size", "8", "--holdout", "8")


def test_what_was_trained_is_what_compiles(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    make_data(tmp_path / "data.npz", 40)
    common = ("--data", tmp_path / "data.npz", "--init", tmp_path / "model", "--qat", "4", *TUNE)
    fine("train", *common, "-o", tmp_path / "tuned")
    fine("compile", tmp_path / "tuned", "-o", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.quantised is not None and bundle.provenance.options["bits"] == 4
    before = compiler.fold(tmp_path / "model")
    data = load_data(str(tmp_path / "data.npz"))
    chosen = choose_scales(before, data, bits=4)
    program = program_of(before, chosen)
    state = _state(tmp_path / "tuned")
    program.load_state_dict({name: state[name] for name in program.state_dict()})
    first = state[f"layers.{program.names['stem.conv0']}.weight"]
    assert (first.numpy() != before.tensor("stem.conv0", "weight")).all()
    for name in program.names:
        mantissas, bias = program.layer(name).integers()
        node = bundle.quantised.node(name)
        compiled = bundle.quantised.tensor(name, "bias").astype(int) << node.bias_exp  # type: ignore[attr-defined]
        assert np.array_equal(mantissas.detach().numpy(), bundle.quantised.tensor(name, "weight")), name
        assert np.array_equal(bias.detach().numpy(), compiled), name
    fine("train", *common, "-o", tmp_path / "again")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("tuned", "again")]
    assert weights[0] == weights[1]
    assert fine("verify", tmp_path / "bundle", "--data", tmp_path / "data.npz", "--limit", "4").code == 0


def _state(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(directory / "last.safetensors")
    start = "model."
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


@pytest.mark.parametrize("stem", ["one-step", "late-mean"])
@pytest.mark.parametrize("backbone", ["spikformer", "spikingformer"])
def test_the_plan_does_not_move_with_the_weights(backbone: str, stem: str) -> None:
    """Tables, shifts and limits of the trained program are those of what compiles, whatever it learnt."""
    choice = DESIGN[0] | {
        "backbone": backbone,
        "stem": stem,
        "accumulate": "rectangular",
        "event_input": False,
    }
    model = random_model(random_config(choice, 5), 5, torch.float32)
    graph, images = compiler.fold(model), images_of(model, 8, 5)
    chosen = choose_scales(graph, images, bits=6)
    program = program_of(graph, chosen)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter *= 0.8
    set_folded(model, program.held())
    compiled = chosen(compiler.fold(model))
    assert compiled.nodes == program.graph.nodes
    for score in compiled.of_type(FixedHaltingScore):
        assert np.array_equal(compiled.tensor(score, "table"), program.graph.tensor(score, "table"))
    trace = run_reference(compiled, api.preprocess(compiled, images))
    output = program(torch.from_numpy(api.preprocess(graph, images)))
    assert np.array_equal(output.visits.numpy(), trace.visits)
    unit = compiled.output.unit  # type: ignore[attr-defined]
    assert np.array_equal(np.rint(output.logits.detach().numpy() / unit), np.rint(trace.logits / unit))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--qat", "4"), "--qat is of a network that exists; give the network as --init"),
        (("--qat", "4", "--init", "model", "--depth", "3"), "neither --preset nor an option of the model"),
        (
            ("--qat", "4", "--init", "model", "--bfloat16", *TUNE),
            "bfloat16 cannot represent the values of a graph; remove",
        ),
        ((), "no --preset is given; give the network as --init, or choose one of"),
    ],
)
def test_what_fine_tuning_asks_for(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path / "data.npz", 20)
    make_checkpoint(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    done = stas("train", "--data", tmp_path / "data.npz", *arguments, "-o", tmp_path / "new")
    assert done.code == 2 and expected in done.err


def test_trained_anew_a_checkpoint_forgets_its_integers(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    make_data(tmp_path / "data.npz", 40)
    common = ("train", "--data", tmp_path / "data.npz", *TUNE, "-o", tmp_path / "new")
    fine(*common, "--init", tmp_path / "model", "--qat", "4")
    assert (tmp_path / "new/quantisation.json").exists()
    small = ("--preset", "tiny", "--patch-size", "2", "--stage1-epochs", "1")
    fine(*common, *small, "--force")
    assert not (tmp_path / "new/quantisation.json").exists()


def test_a_damaged_scale_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    data = images_of(compiler.load_model(tmp_path / "model"), 8, 0)
    save_scales(choose_scales(compiler.fold(tmp_path / "model"), data, bits=4), tmp_path / "model")
    fine("compile", tmp_path / "model", "-o", tmp_path / "bundle")
    path = tmp_path / "model/quantisation.json"
    document = json.loads(path.read_text())
    document["scales"]["blocks.0.fc1"]["exponents"].pop()
    path.write_text(json.dumps(document))
    done = stas("compile", tmp_path / "model", "-o", tmp_path / "again")
    assert (
        done.code == 2
        and "Quantise: blocks.0.fc1: the given scales are not of its weights; fine-tune" in done.err
    )
