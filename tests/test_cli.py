"""Every command, by what it prints, writes and returns; what each says is in docs/cli.md."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from cli_support import CLASSES, CONFIG, Done, fine, make_checkpoint, make_data, start, stas
from PIL import Image
from safetensors import safe_open

import stas_neuro
import stas_neuro.cli.common
from stas_neuro import api
from stas_neuro.activity import read_activity
from stas_neuro.bundle import load_bundle
from stas_neuro.cli import COMMANDS, Settings, cli
from stas_neuro.data import load_data
from stas_neuro.energy import compare, estimate, list_profiles, load_profile
from stas_neuro.ir.text import print_graph
from stas_neuro.models.checkpoint import load_checkpoint, load_config
from stas_neuro.training.options import TrainOptions

DOCS = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
IMAGES = 6


@dataclasses.dataclass(frozen=True)
class Place:
    """A checkpoint, data, its bundle, and runs of it and of the same weights without halting."""

    checkpoint: Path
    data: Path
    bundle: Path
    run: Path
    without: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("cli")
    place = Place(
        make_checkpoint(home / "checkpoint"),
        make_data(home / "data.npz", IMAGES),
        home / "halting.stas",
        home / "halting",
        home / "without",
    )
    fine("compile", place.checkpoint, "-o", place.bundle)
    fine("run", place.bundle, "--data", place.data, "-o", place.run)
    fine("compile", place.checkpoint, "--accumulate", "off", "-o", home / "off.stas")
    fine("run", home / "off.stas", "--data", place.data, "-o", place.without)
    return place


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of groups too."""
    context = click.Context(cli, obj=Settings())
    for name in cli.list_commands(context):  # type: ignore[attr-defined]
        command = cli.get_command(context, name)  # type: ignore[attr-defined]
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())


# The program itself -------------------------------------------------------------------------------------


def test_help_loads_no_library_but_click() -> None:
    heavy = ("numpy", "torch", "norse", "lava", "pydantic", "rich", "safetensors", "PIL", "stas_neuro.api")
    code = f"""
import sys
from stas_neuro.cli import main
code = main(["--help"])
print([name for name in {heavy!r} if name in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert all(f"  {name}" in done.stdout and summary in done.stdout for name, summary in COMMANDS.items())


def test_help_of_a_command_loads_neither_torch_nor_lava() -> None:
    code = f"""
import sys
from stas_neuro.cli import main
assert all(main([name, "--help"]) == 0 for name in {list(COMMANDS)!r})
print([name for name in ("torch", "norse", "lava") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands()])
def test_every_command_and_option_has_help_and_documentation(name: str, command: click.Command) -> None:
    assert f"`stas-export {name}" in DOCS
    help_text = fine(*name.split(), "--help").out
    assert f"  stas-export {name}" in help_text
    if isinstance(command, click.Group):
        return
    (section,) = re.findall(rf"^### `stas-export {name}[^\n]*\n(.*?)(?=^##|\Z)", DOCS, re.M | re.S)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("as_json", "debug"):
            assert parameter.help, parameter.name
            assert all(f"`{flag}" in section for flag in parameter.opts), parameter.opts
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--json", "--debug"} <= flags
    written = set(re.findall(r"`(--[a-z0-9-]+)", section))
    secondary = {flag for parameter in command.params for flag in parameter.secondary_opts}
    assert written <= flags | secondary  # nothing is documented that is not there


def test_version_and_no_arguments() -> None:
    assert fine("--version").out.split()[-1] == stas_neuro.__version__
    assert fine().out == fine("--help").out == fine("-h").out


def test_the_public_api_is_where_the_package_says() -> None:
    for name in stas_neuro.__all__:
        assert callable(getattr(stas_neuro, name)), name
        assert f"`{name}(" in DOCS, name
    assert set(stas_neuro.__all__) <= set(dir(stas_neuro))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stas_neuro.nothing


def test_debug_shows_a_traceback_before_or_after_the_command(tmp_path: Path) -> None:
    plain = stas("inspect", tmp_path / "no")
    assert plain.code == 2 and len(plain.err.splitlines()) == 1
    for arguments in (("--debug", "inspect", tmp_path / "no"), ("inspect", tmp_path / "no", "--debug")):
        debugged = stas(*arguments)
        assert debugged.code == 2
        assert "Traceback" in debugged.err and debugged.err.endswith(plain.err)


def test_interruption_is_130(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", interrupted)
    done = stas("run", place.bundle, "--data", place.data)
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")


def test_a_reader_that_leaves_is_no_error(place: Place) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = start("inspect", place.bundle, "--text", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# compile, inspect, convert ------------------------------------------------------------------------------


def test_compile_writes_the_bundle_that_the_api_makes(place: Place, tmp_path: Path) -> None:
    done = fine("compile", place.checkpoint, "--epsilon", "0.3", "-o", tmp_path / "b.zip", "--json").json
    bundle = load_bundle(tmp_path / "b.zip")
    assert bundle.graph == stas_neuro.compile(place.checkpoint, epsilon=0.3)
    assert bundle.graph != load_bundle(place.bundle).graph
    assert bundle.provenance.source == str(place.checkpoint)
    assert bundle.provenance.options == done["options"] == {"epsilon": 0.3}
    assert set(done["source_sha256"]) == {"config.json", "model.safetensors"}
    assert done["sha256"] == bundle.sha256
    assert done["classes"] == list(CLASSES)
    assert (done["time_steps"], done["blocks"], done["tokens"]) == (3, 2, 16)
    off = load_bundle(place.bundle.with_name("off.stas"))
    assert not off.graph.accumulators and off.provenance.options == {"accumulate": "off"}


def test_compile_leaves_the_model_it_is_given_alone(place: Place) -> None:
    model = load_checkpoint(place.checkpoint)
    graph = stas_neuro.compile(model, accumulate="time", readout="rate")
    assert graph.accumulators and graph.readout.mode == "rate"
    assert model.config == CONFIG


def test_compile_replaces_a_bundle_by_force_only(place: Place, tmp_path: Path) -> None:
    fine("compile", place.checkpoint, "-o", tmp_path / "b")
    again = ("compile", place.checkpoint, "--accumulate", "off", "-o", tmp_path / "b")
    refused = stas(*again)
    assert refused.code == 2 and "--force" in refused.err
    assert load_bundle(tmp_path / "b").graph.accumulators
    fine(*again, "--force")
    assert not load_bundle(tmp_path / "b").graph.accumulators


def test_inspect_tells_every_node(place: Place) -> None:
    bundle = load_bundle(place.bundle)
    document = fine("inspect", place.bundle, "--json").json
    assert [node["name"] for node in document["graph"]] == [node.name for node in bundle.graph.nodes]
    added = next(node for node in document["graph"] if node["name"] == "stem.add")
    assert added["outputs"] == [{"port": "y", "kind": "graded", "shape": [16, 4, 4], "bound": 2}]
    assert document["parameters"] == sum(node["parameters"] for node in document["graph"])
    assert document["source"] == str(place.checkpoint)
    shown = fine("inspect", place.bundle).out
    for node in bundle.graph.nodes:
        assert re.search(rf"^ {re.escape(node.name)} +{type(node).__name__} ", shown, re.M), node.name
    assert fine("inspect", place.bundle, "--text").out == print_graph(bundle.graph)


def test_convert_writes_a_lava_package(place: Place, tmp_path: Path) -> None:
    done = fine("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava", "--json").json
    assert {"run.py", "README.md", "network.json", "weights.npz"} <= set(done["files"])
    assert all((tmp_path / "lava" / name).is_file() for name in done["files"])
    assert stas("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava").code == 2
    fine("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava", "--force")


# run, estimate, compare ---------------------------------------------------------------------------------


def test_run_records_what_the_network_did(place: Place) -> None:
    data, bundle = load_data(str(place.data)), load_bundle(place.bundle)
    trace = stas_neuro.run(bundle, data)
    document = json.loads((place.run / "run.json").read_text())
    assert data.labels is not None
    assert document["accuracy"] == float((trace.predictions == data.labels).mean())
    assert document["token_ratio"] == trace.token_ratio < 1
    assert document["bundle_sha256"] == bundle.sha256
    assert document["images"] == IMAGES
    assert all(f"`{key}`" in DOCS for key in document)
    with np.load(place.run / "outputs.npz") as outputs:
        assert np.array_equal(outputs["logits"], trace.logits)
        assert np.array_equal(outputs["visits"], trace.visits)
        assert np.array_equal(outputs["labels"], data.labels)
        assert all(f"`{key}`" in DOCS for key in outputs)
    assert read_activity(place.run / "activity.json") == trace.activity


def test_backends_give_the_same_run(place: Place, tmp_path: Path) -> None:
    options = ("--data", place.data, "--limit", "3", "--backend", "lava", "-o", tmp_path / "lava", "--json")
    document = fine("run", place.bundle, *options).json
    assert (document["backend"], document["runtime"], document["images"]) == ("lava", "in-process", 3)
    assert all(f"`{key}`" in DOCS for key in document)
    with np.load(tmp_path / "lava" / "outputs.npz") as lava, np.load(place.run / "outputs.npz") as reference:
        assert np.array_equal(lava["visits"], reference["visits"][:3])
        assert np.allclose(lava["logits"], reference["logits"][:3], rtol=0, atol=1e-9)
    expected = read_activity(place.run / "activity.json").restrict(slice(0, 3))
    assert read_activity(tmp_path / "lava" / "activity.json") == expected


def test_run_in_float32_without_labels_or_output(place: Place, tmp_path: Path) -> None:
    unlabelled = make_data(tmp_path / "unlabelled.npz", labels=False)
    document = fine("run", place.bundle, "--data", unlabelled, "--dtype", "float32", "--json").json
    assert document["accuracy"] is None and document["dtype"] == "float32"
    assert "accuracy -" in fine("run", place.bundle, "--data", unlabelled, "--limit", "1").out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unlabelled.npz"]


def test_run_replaces_a_run_by_force_only(place: Place, tmp_path: Path) -> None:
    arguments = ("run", place.bundle, "--data", place.data, "-o", tmp_path / "run", "--limit")
    fine(*arguments, "2")
    assert stas(*arguments, "3").code == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 2
    fine(*arguments, "3", "--force")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_estimate_is_what_the_api_says(place: Place) -> None:
    activity = read_activity(place.run / "activity.json")
    for run in (place.run, place.run / "activity.json"):
        document = fine("estimate", run, "--profile", "loihi2", "--json").json
        assert document == json.loads(json.dumps(estimate(activity, "loihi2").to_json()))
    options = ("--gating", "core", "--weight-bits", "4", "--profile", "loihi1", "--json")
    cost = fine("estimate", place.run, *options).json
    assert (cost["gating"], cost["weight_bits"]) == ("core", 4)
    assert cost["energy_j"]["value"] == estimate(activity, "loihi1", "core", weight_bits=4).energy_j.value  # type: ignore[union-attr]
    full, brief = (
        fine("estimate", place.run, "--profile", "loihi1", *more).out for more in ((), ("--brief",))
    )
    assert "Sources" in full and "Sources" not in brief
    assert "not measured" in full and "not measured" in brief


def test_compare_ranks_chips_and_tells_what_halting_saves(place: Place, tmp_path: Path) -> None:
    halting, without = (read_activity(run / "activity.json") for run in (place.run, place.without))
    profiles = [load_profile(name) for name in list_profiles()]
    document = fine("compare", place.run, "--baseline", f"no halting={place.without}", "--json").json
    expected = compare(halting, {"no halting": without}, profiles)
    assert document["comparison"] == json.loads(json.dumps(expected.to_json()))
    totals = [cost["energy_j"] and cost["energy_j"]["value"] for cost in document["estimates"]]
    assert sorted(cost["profile"] for cost in document["estimates"]) == sorted(list_profiles())
    known = [total for total in totals if total is not None]
    assert known == sorted(known) and totals[: len(known)] == known
    shown = fine("compare", place.run, "--baseline", str(place.without), "--profiles", "loihi2,loihi1").out
    assert "against" in shown and "without" in shown and "cmos45" not in shown
    assert "against" not in fine("compare", place.run).out
    holey = re.sub(
        r"(?ms)^\[energy.score_lookup\].*?(?=^\[)",
        "",
        (Path(stas_neuro.__file__).parent / "hw_profiles/loihi1.toml").read_text(),
    )
    (tmp_path / "holey.toml").write_text(holey)
    told = fine("compare", place.run, "--profiles", f"{tmp_path / 'holey.toml'},loihi2").out
    assert "loihi1 was not priced" in told and "energy.score_lookup" in told


# verify -------------------------------------------------------------------------------------------------


def test_verify_prints_the_certificate(place: Place) -> None:
    document = fine("verify", place.bundle, "--data", place.data, "--limit", "2", "--json").json
    assert document["passed"] and document["images"] == 2 and not document["left_out"]
    assert {run["run"] for run in document["runs"]} >= {"torch, skipping", "Lava, in-process"}
    assert all(f"`{key}`" in DOCS for key in (*document, *document["runs"][0]))
    shown = fine("verify", place.checkpoint, "--data", place.data, "--limit", "1").out
    assert shown.count("equal") == 4 and shown.count("no promise") == 3


def test_verify_fails_where_runs_differ(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.run

    def differing(network: Any, images: Any, **options: Any) -> Any:
        trace = run(network, images, **options)
        if options.get("backend") != "lava":
            return trace
        spikes = {name: array.copy() for name, array in trace.spikes.items()}
        spikes["blocks.1.k_lif"][0, 1, 2, 3] ^= 1
        return dataclasses.replace(trace, spikes=spikes)

    monkeypatch.setattr(api, "run", differing)
    done = stas("verify", place.bundle, "--data", place.data, "--limit", "1")
    assert done.code == 1
    assert "DIFFERS" in done.out and "blocks.1.k_lif: 1 of " in done.out
    assert "image 0, layer blocks.1.k_lif, step 2, token 2, channel 3" in done.err
    as_json = stas("verify", place.bundle, "--data", place.data, "--limit", "1", "--json")
    assert as_json.code == 1 and as_json.json["passed"] is False


def test_verify_says_when_torch_is_left_out(place: Place, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    fine("compile", checkpoint, "-o", tmp_path / "b")
    checkpoint.rename(tmp_path / "moved")
    arguments = ("verify", tmp_path / "b", "--data", place.data, "--limit", "1")
    assert "torch was left out" in fine(*arguments).out
    assert "left out" not in fine(*arguments, "--model", tmp_path / "moved").out


# profiles -----------------------------------------------------------------------------------------------


def test_profiles(tmp_path: Path) -> None:
    listed = fine("profiles", "list", "--json").json
    assert [profile["name"] for profile in listed] == list(list_profiles())
    assert all(name in fine("profiles", "list").out for name in list_profiles())
    shown = fine("profiles", "show", "loihi1").out
    for name, entry in load_profile("loihi1").entries().items():
        assert re.search(rf"^ {re.escape(name)} .* {entry.basis} .*{entry.source}", shown, re.M), name
    document = fine("profiles", "show", "loihi2", "--json").json
    assert document["energy"]["synaptic_operation"]["unit"] == "pJ"
    assert fine("profiles", "validate", "loihi1", "--json").json["valid"]
    source = (Path(stas_neuro.__file__).parent / "hw_profiles" / "loihi1.toml").read_text()
    part = re.sub(r"(?ms)^\[energy.score_lookup\].*?(?=^\[)", "", source)
    (tmp_path / "part.toml").write_text(part)
    incomplete = stas("profiles", "validate", tmp_path / "part.toml")
    assert incomplete.code == 1 and "lacks energy.score_lookup" in incomplete.err
    missing = stas("profiles", "validate", tmp_path / "part.toml", "--json").json["missing"]
    assert missing == ["energy.score_lookup"]


# train --------------------------------------------------------------------------------------------------

QUICK = ("--preset", "tiny", "--dim", "8", "--depth", "1", "--time-steps", "2", "--batch-size", "16")


def train(data: Path, out: Path, *more: str | Path) -> Done:
    return stas("train", "--data", data, *QUICK, "--holdout", "8", *more, "-o", out)


def test_train_resumes_and_its_checkpoint_runs(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    epochs = ("--stage1-epochs", "1", "--stage2-epochs", "1")
    options = (*epochs, "--beta", "-1.5", "--stem", "max", "--no-augment", "--accumulate", "block")
    done = train(data, tmp_path / "model", *options, "--json")
    assert done.code == 0, done.err
    assert [(epoch["stage"], epoch["epoch"]) for epoch in done.json["epochs"]] == [(1, 0), (2, 0)]
    assert done.err.count("\n") == 2 and "stage 2 epoch 1 of 1: loss" in done.err
    config = load_config(tmp_path / "model")
    assert (config.dim, config.depth, config.time_steps) == (8, 1, 2)
    assert (config.beta, config.stem, config.accumulate, config.classes) == (-1.5, "max", "block", CLASSES)
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    refused = train(data, tmp_path / "model", *options)
    assert refused.code == 2 and "--resume" in refused.err and "--force" in refused.err
    resumed = train(data, tmp_path / "model", *options, "--resume")
    assert resumed.code == 0 and resumed.err == ""  # nothing was left to do
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    other = train(data, tmp_path / "model", *options, "--resume", "--seed", "1")
    assert other.code == 2 and "other options" in other.err
    forced = train(data, tmp_path / "model", *options, "--force", "--seed", "1")
    assert forced.code == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != weights
    assert (tmp_path / "model" / "log.jsonl").read_text().count("\n") == 2
    fine("compile", tmp_path / "model", "-o", tmp_path / "b")
    assert fine("verify", tmp_path / "b", "--data", data, "--limit", "1", "--json").json["passed"]


def test_train_holds_out_a_tenth_and_starts_from_weights(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    epochs = ("--stage1-epochs", "1", "--stage2-epochs", "0")
    first = stas("train", "--data", data, *QUICK, *epochs, "--limit", "30", "-o", tmp_path / "a", "--json")
    assert first.code == 0 and first.json["images"] == 30
    with safe_open(tmp_path / "a" / "last.safetensors", "np") as state:
        _, options = json.loads(json.loads(state.metadata()["progress"])["key"])
    assert options["holdout"] == 3
    done = train(
        data, tmp_path / "b", "--stage1-epochs", "0", "--stage2-epochs", "1", "--init", tmp_path / "a"
    )
    assert done.code == 0, done.err
    bad = train(data, tmp_path / "c", *epochs, "--init", tmp_path / "a", "--mlp-ratio", "1.0")
    assert bad.code == 2 and "its layers are not those" in bad.err


def test_train_has_an_option_for_every_training_option() -> None:
    command = dict(commands())["train"]
    defaults = {
        parameter.name: parameter.default
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    for field in dataclasses.fields(TrainOptions):
        assert field.name in defaults
        if field.name != "holdout":
            assert defaults[field.name] == field.default


@pytest.mark.slow
def test_train_with_two_processes(tmp_path: Path) -> None:
    data = make_data(tmp_path / "train.npz", 40)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    arguments = (
        "train",
        "--data",
        data,
        *QUICK,
        "--holdout",
        "8",
        "--stage1-epochs",
        "1",
        "--stage2-epochs",
        "1",
    )
    command = [*launcher, "stas_neuro.cli", *map(str, arguments), "-o", str(tmp_path / "two"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["epochs"]) == 2
    fine("compile", tmp_path / "two", "-o", tmp_path / "b")


# progress -----------------------------------------------------------------------------------------------


def test_progress_without_a_terminal_is_lines_on_stderr(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = fine("run", place.bundle, "--data", place.data, "--backend", "lava", "--json")
    assert quiet.err == ""
    monkeypatch.setattr(stas_neuro.cli.common, "PLAIN_INTERVAL_S", 0.0)
    told = fine("run", place.bundle, "--data", place.data, "--limit", "3", "--backend", "lava", "--json")
    assert told.err.splitlines() == ["running on lava: 1 of 3", "running on lava: 2 of 3"]
    assert told.json["images"] == 3


def test_progress_on_a_terminal_is_a_bar(place: Place) -> None:
    reading, terminal = pty.openpty()
    arguments = ("run", place.bundle, "--data", place.data, "--json")
    done = start(*arguments, stderr=terminal)
    os.close(terminal)
    drawn = os.read(reading, 65536).decode()
    os.close(reading)
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == IMAGES
    assert "running on reference" in drawn and f"{IMAGES}/{IMAGES}" in drawn


# demo ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shipment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the demo needs, small and random, where it looks for the shipped models."""
    root = tmp_path / "shipped"
    (root / "data").mkdir(parents=True)
    make_data(root / "data" / "fashion-mnist-512.npz", 10)
    make_checkpoint(root / "models" / "fashion-spikformer")
    make_checkpoint(root / "models" / "fashion-spikformer" / "stage1", accumulate="off")
    make_checkpoint(root / "models" / "fashion-t1", accumulate="off", time_steps=1)
    monkeypatch.setattr("stas_neuro.shipped.ROOT", root)
    return root


def test_demo_goes_all_the_way(shipment: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    document = fine("demo", "-o", out, "--images", "4", "--json").json
    assert document["verification"]["passed"] and document["verification"]["images"] == 4
    models = {model["model"]: model for model in document["models"]}
    assert len(models) == 4 and 0 < models["halting"]["token_ratio"] < 1
    assert all(0 <= model["accuracy"] <= 1 for model in models.values())
    baselines = {row["baseline"] for row in document["comparison"]["rows"]}
    assert baselines == set(models) - {"halting"}
    assert {row["profile"] for row in document["comparison"]["rows"]} == set(list_profiles())
    with Image.open(document["halting_map"]) as picture:
        assert picture.format == "PNG"
    # The serial price of the same baseline is higher: pipelining is what halting gives up.
    assert {row["baseline"] for row in document["comparison_pipelined"]["rows"]} < baselines
    saved = fine("compare", out / "runs" / "halting", "--baseline", out / "runs" / "stage1", "--json").json
    of_demo = [row for row in document["comparison"]["rows"] if row["baseline"].startswith("stage 1")]
    numbers = [
        [row["dynamic_energy_saving"] for row in rows] for rows in (saved["comparison"]["rows"], of_demo)
    ]
    assert numbers[0] == numbers[1]
    assert fine(
        "verify", out / "halting.stas", "--data", shipment / "data" / "fashion-mnist-512.npz", "--limit", "1"
    )
    assert stas("demo", "-o", out, "--images", "4").code == 2


def test_demo_shows_what_it_found(shipment: Path) -> None:
    done = fine("demo", "--images", "3")
    (directory,) = re.findall(r"Bundles and runs are in (\S+);", done.out)
    assert (Path(directory) / "halting.png").is_file()
    for text in ("accuracy", "token ratio", "equal", "halting ignored", "cmos45", "not measured"):
        assert text in done.out
    assert done.out.count("equal") == 4


def test_a_missing_shipment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("stas_neuro.shipped.ROOT", tmp_path)
    done = stas("demo")
    assert done.code == 2 and "fashion-mnist-512.npz is missing" in done.err
