"""Commands take the name of a shipped model wherever they take the path of a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_support import fine, make_checkpoint, stas

from stas_neuro.assets import shipped_model, shipped_models
from stas_neuro.bundle import load_bundle
from stas_neuro.cli.models import labelled_models


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compile_takes_a_name_as_the_path_of_that_model() -> None:
    named = fine("compile", "order/stage1", "-o", "named.stas", "--json").json
    path = fine("compile", str(shipped_model("order/stage1")), "-o", "path.stas", "--json").json
    assert named["source"] == path["source"] and named["source_sha256"] == path["source_sha256"]
    assert load_bundle(Path("named.stas")).graph.nodes == load_bundle(Path("path.stas")).graph.nodes


def test_a_directory_of_that_name_comes_first() -> None:
    own = fine("compile", make_checkpoint(Path("order")), "-o", "own.stas", "--json").json
    assert (
        fine("compile", "order", "-o", "again.stas", "--json").json["source_sha256"] == own["source_sha256"]
    )


def test_verify_check_and_optimise_take_names() -> None:
    assert fine("check", "order", "--profile", "loihi2", "--json").json["passed"]
    assert fine("verify", "order/stage1", "--data", "order", "--limit", "1", "--json").json["passed"]
    # Both names are found before the images are counted.
    search = ("optimise", "order/stage1", "--rival", "other=order/stage1", "--data", "order", "--limit", "8")
    assert "order has 8 images" in stas(*search, "-o", "best").err
    assert labelled_models(["T=1=order"]) == {"T=1": shipped_model("order")}


def test_fine_tuning_starts_from_a_name() -> None:
    arguments = ("train", "--data", "order", "--limit", "24", "--init", "order/stage1", "--qat", "8")
    fine(*arguments, "--holdout", "12", "--batch-size", "4", "--stage2-epochs", "1", "-o", "tuned")
    assert json.loads(Path("tuned/config.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("compile", "ordr", "-o", "x"), "there is no model or file 'ordr'; did you mean order?"),
        (("check", "order/stage2"), "there is no model or file 'order/stage2'; did you mean order/stage1?"),
        (("optimise", "ordr", "--data", "order", "-o", "x"), "did you mean order?"),
        (("optimise", "order", "--rival", "a=ordr", "--data", "order", "-o", "x"), "did you mean order?"),
        (("verify", "ordr", "--data", "order"), "did you mean order?"),
        (("verify", "order", "--model", "ordr", "--data", "order"), "did you mean order?"),
        (("train", "--init", "ordr", "--qat", "8", "--data", "order", "-o", "x"), "did you mean order?"),
        (("run", "order", "--data", "order"), "stas-export compile order -o BUNDLE"),
        (("inspect", "order"), "order is a shipped model, not a bundle"),
        (("convert", "order", "--to", "onnx", "-o", "x"), "order is a shipped model, not a bundle"),
        (("estimate", "order", "--profile", "loihi2"), "order is a shipped model, not a run; compile it"),
        (("compare", "order"), "order is a shipped model, not a run"),
        (("compare", str(shipped_model("order"))), "is a checkpoint, not a run"),
        (("report", "order", "-o", "x.html"), "order is a shipped model, not a run"),
        (("baseline", "order", "-o", "x"), "order is a shipped model, not a run"),
    ],
)
def test_a_wrong_name_or_a_model_in_place_of_its_run_is_said(
    home: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = stas(*arguments)
    assert done.code == 2 and done.err.count("\n") == 1, done.err
    assert expected in done.err
    assert not list(home.iterdir())


def test_a_bundle_in_place_of_its_run_is_said() -> None:
    fine("compile", "order/stage1", "-o", "order.stas")
    done = stas("estimate", "order.stas", "--profile", "loihi2")
    assert "order.stas is a bundle, not a run; run it first: stas-export run order.stas" in done.err


def test_sweeps_take_names(home: Path) -> None:
    config = '[compile]\nmodel = ["order", "order/stage1"]\n[run]\ndata = "order"\nlimit = 2\n'
    (home / "sweep.toml").write_text(config)
    assert fine("sweep", "sweep.toml", "-o", "out", "--json", "--jobs", "1").json["computed"] == 2
    (home / "sweep.toml").write_text(config.replace('"order",', '"ordr",'))
    done = stas("sweep", "sweep.toml", "-o", "wrong")
    assert done.code == 2 and 'compile.model = "ordr": there is no model or file' in done.err


@pytest.mark.parametrize(("begun", "expected"), [("order", {"plain"}), ("own", {"file"}), ("x", {"file"})])
def test_a_shell_completes_names_where_no_file_begins_so(home: Path, begun: str, expected: set[str]) -> None:
    (home / "own-model").mkdir()
    asked = {
        "_STAS_EXPORT_COMPLETE": "bash_complete",
        "COMP_WORDS": f"stas-export compile {begun}",
        "COMP_CWORD": "2",
    }
    program = [sys.executable, "-m", "stas_neuro"]
    done = subprocess.run(program, env=os.environ | asked, capture_output=True, text=True, check=True)
    lines = [line.split(",") for line in done.stdout.splitlines()]
    assert {kind for kind, _ in lines} == expected
    if expected == {"plain"}:
        assert {name for _, name in lines} == {name for name in shipped_models() if name.startswith(begun)}
