"""The program, its help and its documentation; compile, inspect, convert and profiles."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support.cli_support import (
    CLASSES,
    CONFIG,
    Place,
    fine,
    make_place,
    start,
    stas,
)
from support.energy_runs import run as record
from support.paths import ROOT

import stas_neuro
import stas_neuro.cli.common
from stas_neuro import api
from stas_neuro.activity import write_activity
from stas_neuro.bundle import load_bundle
from stas_neuro.chips import list_profiles, load_profile
from stas_neuro.cli import COMMANDS, Settings, cli
from stas_neuro.cli.common import duration
from stas_neuro.errors import closest, unknown
from stas_neuro.ir import HaltingScore
from stas_neuro.ir.text import print_graph
from stas_neuro.models.checkpoint import load_checkpoint

DOCS = (ROOT / "docs" / "cli.md").read_text()
IMAGES = 6


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of groups too."""
    context = click.Context(cli, obj=Settings())
    for name in cli.list_commands(context):  # type: ignore[attr-defined]
        command = cli.get_command(context, name)  # type: ignore[attr-defined]
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("cli"), IMAGES)


HEAVY = (
    "numpy",
    "torch",
    "norse",
    "lava",
    "pydantic",
    "rich",
    "safetensors",
    "PIL",
    "stas_neuro.ir",
    "stas_neuro.api",
)


PRICING_NEEDS_NOT = (
    "analysis",
    "api",
    "bundle",
    "compiler",
    "data",
    "ir",
    "passes",
    "placement",
    "reference",
)


def test_help_of_no_command_loads_a_library_but_click() -> None:
    code = f"""
import sys
from stas_neuro.cli import main
for command in {["", *(name for name, _ in commands())]!r}:
    code = main([*command.split(), "--help"])
    print(f"after {{command}}:", [name for name in {HEAVY!r} if name in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("after ")]
    assert told == [f"after {name}: [] 0" for name in ("", *(name for name, _ in commands()))]
    assert all(f"  {name}" in done.stdout and summary in done.stdout for name, summary in COMMANDS.items())


def test_estimate_loads_only_what_prices(tmp_path: Path) -> None:
    write_activity(record(), tmp_path / "activity.json")
    code = f"""
import sys
from stas_neuro.cli import main
code = main(["estimate", {str(tmp_path)!r}, "--profile", "loihi2"])
print("loaded:", [name for name in {PRICING_NEEDS_NOT!r} if f"stas_neuro.{{name}}" in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: [] 0"


def test_the_end_of_a_process_searches_for_no_unused_objects() -> None:
    code = """
import atexit, gc, sys
atexit.register(lambda: print("at the end:", gc.get_freeze_count() > len(gc.get_objects())))
from stas_neuro.cli import main
sys.argv = ["stas-export", "--version"]
main(["--version"])
print("after a call:", gc.get_freeze_count())
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, after_call, _, at_end = done.stdout.splitlines()
    assert (after_call, at_end) == ("after a call: 0", "at the end: True")


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands()])
def test_every_command_and_option_has_help_and_documentation(name: str, command: click.Command) -> None:
    assert f"`stas-export {name}" in DOCS
    help_text = fine(*name.split(), "--help").out
    assert f"  stas-export {name}" in help_text
    if isinstance(command, click.Group):
        return
    (section,) = re.findall(rf"^### `stas-export {name}[^\n]*\n(.*?)(?=^##|\Z)", DOCS, re.M | re.S)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("as_json", "quiet", "debug"):
            assert parameter.help, parameter.name
            assert all(f"`{flag}" in section for flag in parameter.opts), parameter.opts
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--json", "--quiet", "--debug"} <= flags
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


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(closed: str, place: Place, tmp_path: Path) -> None:
    options = f"--data {place.data} --limit 2 -o {tmp_path / 'run'}"
    line = f"exec {sys.executable} -W error -m stas_neuro.cli run {place.bundle} {options} {closed}"
    assert subprocess.run(["sh", "-c", line], timeout=120, check=False).returncode == 0
    assert (tmp_path / "run" / "run.json").exists()


def test_compile_writes_the_bundle_that_the_api_makes(place: Place, tmp_path: Path) -> None:
    done = fine("compile", place.checkpoint, "--epsilon", "0.3", "-o", tmp_path / "b.zip", "--json").json
    bundle = load_bundle(tmp_path / "b.zip")
    assert bundle.graph == stas_neuro.fold(place.checkpoint, epsilon=0.3)
    assert bundle.graph != load_bundle(place.bundle).graph
    assert bundle.provenance.source == str(place.checkpoint.resolve())
    assert bundle.provenance.options == done["options"] == {"epsilon": 0.3}
    assert set(done["source_sha256"]) == {"config.json", "model.safetensors"}
    assert done["sha256"] == bundle.sha256
    assert done["classes"] == list(CLASSES)
    assert (done["time_steps"], done["blocks"], done["tokens"]) == (3, 2, 16)
    off = load_bundle(place.bundle.with_name("off.stas"))
    assert not off.graph.accumulators and off.provenance.options == {"accumulate": "off"}


@pytest.mark.parametrize("added", [(), ("--halting", "block", "--alpha", "1", "--beta", "-1")])
def test_a_cap_on_visits_and_groups_of_tokens_are_compiled_and_verified(
    added: tuple[str, ...], place: Place, tmp_path: Path
) -> None:
    words = ("--max-visits", "4", "--token-groups", "2", "--bits", "8")
    out = ("-o", tmp_path / "b", "--json")
    options = fine("compile", place.checkpoint, *added, *words, *out).json["options"]
    assert (options["max_visits"], options["token_groups"]) == (4, 2)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.graph.of_type(HaltingScore)[0].groups == (0,) * 8 + (1,) * 8
    if not added:
        assert bundle.graph == stas_neuro.fold(place.checkpoint, max_visits=4, token_groups=2)
    activity = stas_neuro.run(bundle, stas_neuro.load_data(str(place.data), "test")).activity
    assert activity.visits is not None and activity.visits.sum(axis=(1, 2)).max() <= 4
    document = fine("verify", tmp_path / "b", "--data", place.data, "--limit", "2", "--json").json
    assert document["passed"] and not document["left_out"]


def test_a_bundle_knows_its_checkpoint_from_any_directory(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.checkpoint.parent)
    fine("compile", place.checkpoint.name, "-o", tmp_path / "b")
    assert load_bundle(tmp_path / "b").provenance.source == str(place.checkpoint.resolve())


def test_compile_leaves_the_model_it_is_given_alone(place: Place) -> None:
    model = load_checkpoint(place.checkpoint)
    graph = stas_neuro.fold(model, accumulate="time", readout="rate")
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
        assert re.search(rf"^{re.escape(node.name)} +{type(node).__name__} ", shown, re.M), node.name
    assert fine("inspect", place.bundle, "--text").out == print_graph(bundle.graph)


def test_convert_writes_a_lava_package(place: Place, tmp_path: Path) -> None:
    done = fine("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava", "--json").json
    assert {"run.py", "README.md", "network.json", "weights.npz"} <= set(done["files"])
    assert all((tmp_path / "lava" / name).is_file() for name in done["files"])
    assert stas("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava").code == 2
    fine("convert", place.bundle, "--to", "lava", "-o", tmp_path / "lava", "--force")


def test_profiles(tmp_path: Path) -> None:
    listed = fine("profiles", "list", "--json").json
    assert [profile["name"] for profile in listed] == list(list_profiles())
    assert all(name in fine("profiles", "list").out for name in list_profiles())
    shown = fine("profiles", "show", "loihi1").out
    for name, entry in load_profile("loihi1").entries().items():
        assert re.search(rf"^{re.escape(name)} .* {entry.basis} .*{entry.source}", shown, re.M), name
    document = fine("profiles", "show", "loihi2", "--json").json
    assert document["energy"]["synaptic_operation"]["unit"] == "pJ"
    assert fine("profiles", "validate", "loihi1", "--json").json["valid"]
    (whatif,) = [profile for profile in listed if profile["name"] == "loihi2-gated-whatif"]
    assert whatif["extends"] == "loihi2" and whatif["bases"]["assumed"] > 20
    shown = fine("profiles", "show", "loihi2-gated-whatif").out
    assert re.search(r"^time\.wake .* second hand .*loihi2-gated-whatif", shown, re.M)
    assert re.search(r"^energy\.hop_y .* loihi2$", shown, re.M) and "time.wake: What if" in shown
    assert "inherited" in fine("profiles", "validate", "loihi2-gated-whatif").out
    source = (Path(stas_neuro.__file__).parent / "hw_profiles" / "loihi1.toml").read_text()
    part = re.sub(r"(?ms)^\[energy.score_lookup\].*?(?=^\[)", "", source)
    (tmp_path / "part.toml").write_text(part)
    incomplete = stas("profiles", "validate", tmp_path / "part.toml")
    assert incomplete.code == 1 and "lacks energy.score_lookup" in incomplete.err
    missing = stas("profiles", "validate", tmp_path / "part.toml", "--json").json["missing"]
    assert missing == ["energy.score_lookup"]


# Names, completion, progress -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("comp",), {"compile", "compare", "completion"}),
        (("estimate", "--sch"), {"--schedule"}),
        (("train", "--preset", "fash"), {"fashion", "fashion-spikingformer"}),
        (("run", "x.stas", "--data", "order"), {"order", "order-long"}),
        (("compile", "x", "--calibrate", "dig"), {"digits"}),
        (("run", "x.stas", "--data", "photos/"), {"file,photos/"}),
        (("check", "x", "--profile", "loihi1"), {"loihi1", "loihi1-fitted"}),
        (("profiles", "show", "spin"), {"spinnaker1", "spinnaker2"}),
        (("trian", "--preset"), {""}),
    ],
)
def test_a_shell_completes_commands_options_and_values(words: tuple[str, ...], expected: set[str]) -> None:
    asked = {
        "_STAS_EXPORT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("stas-export", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "stas_neuro"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.removeprefix("plain,") for line in done.stdout.splitlines()} == expected


def test_completion_prints_code_that_bash_accepts() -> None:
    code = fine("completion", "bash").out
    assert "_STAS_EXPORT_COMPLETE=bash_complete" in code
    assert subprocess.run(["bash", "-n"], input=code, text=True, check=False).returncode == 0
    assert fine("completion", "zsh").out.startswith("#compdef stas-export")
    assert fine("completion", "fish", "--json").json["shell"] == "fish"


def test_the_package_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stas_neuro", "estimat"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert (
        done.stderr == "error: there is no command 'estimat'; did you mean estimate? See stas-export --help\n"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Loihi-2", "loihi2"), ("LOIHI1", "loihi1"), ("spinaker2", "spinnaker2"), ("zebra", None), ("", None)],
)
def test_the_closest_name(name: str, meant: str | None) -> None:
    assert closest(name, list_profiles()) == meant
    message = str(unknown("profile", name, list_profiles()))
    assert (f"did you mean {meant}? Use one of" in message) == (meant is not None)


def test_swapped_letters_of_a_short_name_are_known() -> None:
    assert closest("tyni", ["fashion", "tiny", "order"]) == "tiny"
    assert closest("emit", ["fashion", "tiny", "order"]) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (89, "about 89 s"),
        (91, "about 2 min"),
        (5399, "about 90 min"),
        (7200, "about 2 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
