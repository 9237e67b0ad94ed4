"""The exported package: what is in it, that it runs by itself, and that it gives what stas-neuro gives."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.ir_random import Recipe, build
from support.pythons import interpreter

from stas_neuro.bundle import Provenance, save_bundle
from stas_neuro.data import normalise
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.package import MODULES, write_package
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.exporters.lava.standalone import main
from stas_neuro.ir import Graph

GUARDED = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])  # as for `python run.py`
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    strangers = {"torch", "safetensors", "pydantic", "click", "rich"} & set(sys.modules)
    assert not strangers, strangers
    ours = [each for name, each in sys.modules.items() if name.partition(".")[0] == "stas_neuro"]
    assert len(ours) > 40 and all(each.__file__.startswith(sys.path[0]) for each in ours), ours
"""
"""Runs a script and fails where it imports more than the package may need."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build(Recipe(norm=False, stem="learned", blocks=1))


ODD = "-a: b\n\u00e9" + ("\udcff" if sys.platform == "linux" else "")
"""A name that is easily misread: in a list of paths, as an option, as text. Not all systems take it whole."""


@pytest.fixture(scope="module")
def package(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / ODD / "network"
    write_package(graph, path)
    return path


@pytest.fixture(scope="module")
def images(package: Path) -> Path:
    rng = np.random.default_rng(0)
    path = package.parent.parent / "images.npz"
    raw = rng.integers(0, 256, (5, 2, 4, 6), dtype=np.uint8)
    np.savez(path, images=raw, labels=rng.integers(0, 3, 5))
    return path


def run(package: Path, *arguments: object, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the package's run.py from a directory that has nothing to import."""
    command = [python, "-c", GUARDED, package / "run.py", *arguments]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    temporary = package.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=package.parent,
        env=env | {"TMPDIR": str(temporary)},
        timeout=120,
    )
    assert not list(temporary.iterdir())
    return done


def assert_predicts_as(graph: Graph, images: Path, predictions: Path, printed: str) -> None:
    raw = np.load(images)
    trace = run_lava(graph, normalise(raw["images"], graph.preprocessing.mean, graph.preprocessing.std))
    found = np.load(predictions)
    np.testing.assert_allclose(found["logits"], trace.logits, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found["predictions"], trace.predictions)
    np.testing.assert_array_equal(found["visits"], trace.visits)
    right = int((trace.predictions == raw["labels"]).sum())
    lines = [f"{index}: {graph.classes[class_]}" for index, class_ in enumerate(trace.predictions)]
    lines += [f"accuracy: {right / 5:.4f} ({right} of 5)", f"token ratio: {trace.token_ratio:.4f}"]
    assert printed.splitlines() == lines


@pytest.mark.parametrize("runtime", ["in-process", "multiprocess"])
def test_the_package_gives_what_stas_neuro_gives(
    runtime: str, graph: Graph, package: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.npz"
    done = run(package, images, "--out", out, "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert_predicts_as(graph, images, out, done.stdout)


def test_the_package_has_its_files(package: Path) -> None:
    assert {path.name for path in package.iterdir()} == {
        "README.md",
        "network.json",
        "run.py",
        "stas_neuro",
        "weights.npz",
    }
    for pattern in (*MODULES, "__init__.py"):
        assert list((package / "stas_neuro").glob(pattern)), pattern
    assert not list(package.rglob("__pycache__"))
    readme = (package / "README.md").read_text()
    assert "of shape (n, 2, 4, 6)" in readme and "3 model steps" in readme


def test_what_the_package_imports_is_in_it_but_for_numpy_and_lava(package: Path) -> None:
    for path in (package / "stas_neuro").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in map(str, names):
                root, *inner = name.split(".")
                if root == "stas_neuro":
                    found = (package / root).joinpath(*inner)
                    assert found.with_suffix(".py").is_file() or (found / "__init__.py").is_file(), (
                        path,
                        name,
                    )
                else:
                    wanted = {*sys.stdlib_module_names, "numpy", *["lava"] * (path.name == "lava_api.py")}
                    assert root in wanted, (path, name)


def test_float_images_labels_and_limits(
    package: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "floats.npz"
    np.savez(path, images=np.load(images)["images"] / 255.0)
    printed = []
    for pixels in (images, path):
        assert main(package, [str(pixels), "--limit", "2"]) == 0
        printed.append(capsys.readouterr().out.splitlines())
    assert printed[1][:2] == printed[0][:2]
    assert len(printed[1]) == 3  # no labels, no accuracy


def test_bad_input_is_one_line_and_exit_code_2(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = run(package, tmp_path / "none.npz")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ") and len(missing.stderr.splitlines()) == 1
    path = tmp_path / "small.npz"
    np.savez(path, images=np.zeros((2, 2, 3, 3), np.uint8))
    assert main(package, [str(path)]) == 2
    assert "images have shape (2, 2, 3, 3), the network takes (B, 2, 4, 6)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pixels", "wrong"),
    [
        (np.full((1, 2, 4, 6), 300, np.int64), "pixels are int64 in 300..300; scale them to 0..255"),
        (np.full((1, 2, 4, 6), 200.0), "float pixels are in 200..200; scale them to 0..1"),
        (np.full((1, 2, 4, 6), -0.5), "float pixels are in -0.5..-0.5; scale them to 0..1"),
    ],
)
def test_pixels_that_would_be_misread_are_refused(
    pixels: np.ndarray, wrong: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "images.npz", images=pixels)
    assert main(package, [str(tmp_path / "images.npz")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"images.npz: {wrong}" in error


def test_the_package_refuses_a_place_for_its_results_first(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("my thesis")
    for place, why in (("mine", "File exists"), ("none/new", "No such file or directory")):
        assert main(package, [str(tmp_path / "missing.npz"), "--out", str(tmp_path / place)]) == 2
        error = capsys.readouterr().err
        assert error == f"error: {tmp_path / place}: {why}; choose another path for --out\n"
    assert main(package, [str(tmp_path / "missing.npz"), "--out", str(tmp_path / "new")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_interrupt_ends_the_package_in_one_line(
    package: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stas_neuro.exporters.lava.standalone.run_network", interrupted)
    assert main(package, [str(images)]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(
    "closed",
    [
        "<&- >&- 2>&-",
        *(
            pytest.param(closed, marks=pytest.mark.slow)
            for closed in ("<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-")
        ),
    ],
)
def test_the_package_runs_with_standard_streams_closed(
    closed: str, package: Path, images: Path, tmp_path: Path
) -> None:
    command = [sys.executable, package / "run.py", images, "--limit", 2, "--runtime", "multiprocess"]
    line = shlex.join(map(str, [*command, "--out", tmp_path / "predictions.npz"]))
    assert subprocess.run(["sh", "-c", f"exec {line} {closed}"], timeout=120, check=False).returncode == 0
    assert len(np.load(tmp_path / "predictions.npz")["predictions"]) == 2


def test_the_package_ends_quietly_when_its_reader_has_gone(package: Path, images: Path) -> None:
    command = [sys.executable, package / "run.py", images, "--limit", 1]
    line = shlex.join(map(str, command))
    done = subprocess.run(
        ["bash", "-c", f"{line} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")


WITHOUT_LAVA = """
import sys
sys.modules["lava"] = None
from pathlib import Path
from stas_neuro.bundle import load_bundle
from stas_neuro.exporters.lava.package import write_package
write_package(load_bundle(Path(sys.argv[1])).graph, sys.argv[2])
"""


def test_a_package_is_written_without_lava(graph: Graph, package: Path, tmp_path: Path) -> None:
    save_bundle(graph, tmp_path / "bundle", Provenance(source="", source_sha256={}, options={}))
    command = [sys.executable, "-c", WITHOUT_LAVA, str(tmp_path / "bundle"), str(tmp_path / "network")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("network.json", "run.py", "README.md"):
        assert (tmp_path / "network" / name).read_bytes() == (package / name).read_bytes()


def test_only_another_package_is_replaced_and_only_by_force(graph: Graph, tmp_path: Path) -> None:
    target = tmp_path / "a" / "network"
    write_package(graph, target)
    with pytest.raises(InputError, match=r"exists.*--force"):
        write_package(graph, target)
    (target / "stray").write_text("old")
    write_package(graph, target, force=True)
    assert not (target / "stray").exists()
    assert [path.name for path in target.parent.iterdir()] == ["network"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"has no network\.json"):
        write_package(graph, other, force=True)
    assert (other / "thesis.tex").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    write_package(graph, empty)
    assert (empty / "run.py").exists()


def test_traced_graphs_and_places_that_cannot_be_written_are_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fold it first"):
        write_package(build(Recipe(norm=True)), tmp_path / "network")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"network: Not a directory; "):
        write_package(graph, tmp_path / "file" / "network")


@pytest.mark.slow
def test_the_package_runs_with_unmodified_lava_on_python_3_10(
    graph: Graph, package: Path, images: Path, tmp_path: Path
) -> None:
    env = tmp_path / "venv"
    subprocess.run([interpreter("3.10"), "-m", "venv", env], check=True)
    python = str(env / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "lava-nc==0.10.0", "numpy==1.26.*"], check=True)
    for runtime in ("in-process", "multiprocess"):
        out = tmp_path / f"{runtime}.npz"
        done = run(package, images, "--out", out, "--runtime", runtime, python=python)
        assert done.returncode == 0, done.stderr
        assert_predicts_as(graph, images, out, done.stdout)
