"""Wheel, sdist and editable install hold the whole tree, exporters and hw_profiles inside stas_neuro."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT
from support.pythons import OTHERS, find_uv, interpreter

import stas_neuro

SOURCES = ("LICENSE", "README.md", "examples", "exporters", "hw_profiles", "pyproject.toml", "stas_neuro")
# What a user's interpreter sees: the install under test, then our environment's dependencies, but not its own
# editable install of this project, which only a .pth file brings in.
LOOK_INSIDE = """
import importlib.metadata, importlib.resources, json, site, sys
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])
import stas_neuro, stas_neuro.exporters, stas_neuro.hw_profiles
profiles = importlib.resources.files("stas_neuro.hw_profiles")
print(json.dumps({
    "files": [stas_neuro.__file__, stas_neuro.exporters.__file__, stas_neuro.hw_profiles.__file__],
    "profiles": sorted(p.name for p in profiles.iterdir() if p.name.endswith(".toml")),
    "version": importlib.metadata.version("stas-neuro"),
    "script": importlib.metadata.entry_points(group="console_scripts")["stas-export"].value,
}))
"""


def uv(*arguments: str | Path, **environment: str) -> None:
    """Run uv, as whoever runs these tests has it."""
    command = [find_uv(), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,  # for installing torch over a slow network
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what is built, symlinks kept, so that a build finds no leftovers and leaves none."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def built(tree: Path) -> dict[str, Path]:
    """Build the sdist, the wheel from it, and the wheel straight from the tree."""
    build = ("build", "--offline", "--no-build-isolation", "--python", sys.executable)
    out = tree / "out"
    uv(*build, "--out-dir", out, tree)
    uv(*build, "--wheel", "--out-dir", out / "direct", tree)
    return {
        "sdist": next(out.glob("*.tar.gz")),
        "wheel": next(out.glob("*.whl")),
        "direct": next((out / "direct").glob("*.whl")),
    }


def files_below(tree: Path) -> set[str]:
    """Name every file that an import of stas_neuro may want, as a wheel names it."""
    found = set()
    for directory, _, names in os.walk(tree / "stas_neuro", followlinks=True):
        found |= {(Path(directory) / name).relative_to(tree).as_posix() for name in names}
    return {name for name in found if "__pycache__" not in name}


@pytest.mark.parametrize("which", ["wheel", "direct"])
def test_a_wheel_holds_every_file_of_the_tree_and_no_other_package(
    which: str, tree: Path, built: dict[str, Path]
) -> None:
    names = set(zipfile.ZipFile(built[which]).namelist())
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == files_below(tree)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.parametrize("how", ["wheel", "sdist", "editable"])
def test_an_install_imports_exporters_and_profiles(
    how: str, tree: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    what = ("--editable", tree) if how == "editable" else (built[how],)
    install = ("pip", "install", "--offline", "--no-deps", "--no-build-isolation", "--python", sys.executable)
    uv(*install, "--target", tmp_path, *what)
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, "-I", "-c", LOOK_INSIDE, str(tmp_path), sysconfig.get_path("platlib")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    home = tree if how == "editable" else tmp_path
    assert all(Path(file).is_relative_to(home) for file in seen["files"])
    assert "loihi2.toml" in seen["profiles"]
    assert seen["profiles"] == sorted(path.name for path in (ROOT / "hw_profiles").glob("*.toml"))
    assert seen["version"] == stas_neuro.__version__
    assert seen["script"] == "stas_neuro.cli:main"


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHERS)
def test_the_locked_environment_works_on_another_python(version: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:  # 4.5 GB: not kept, as tmp_path is
        environment = Path(name)
        sync = ("sync", "--frozen", "--no-editable", "--all-extras", "--python", interpreter(version))
        uv(*sync, UV_PROJECT_ENVIRONMENT=name)
        model, images = (
            ROOT / "examples/models/fashion-spikformer",
            ROOT / "examples/data/fashion-mnist-512.npz",
        )
        some = ("--data", images, "--limit", "2")
        no_torch = "test_contracts.py::test_everything_else_imports_neither_torch_nor_lava"
        tests = [
            ROOT / "tests" / name for name in ("exporters/lava/test_compat.py", "ir/test_ir.py", no_torch)
        ]
        for program, *arguments in (
            ("stas-export", "--help"),
            ("stas-export", "compile", model, "--bits", "8", "-o", "model.stas"),
            ("stas-export", "run", "model.stas", *some, "--backend", "lava", "-o", "run"),
            ("stas-export", "verify", "model.stas", *some),
            ("stas-export", "convert", "model.stas", "--to", "lava", "-o", "package"),
            ("python", "package/run.py", images, "--limit", "2"),
            ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests),
        ):
            done = subprocess.run(
                [environment / "bin" / program, *arguments],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, (program, arguments, done.stdout + done.stderr)
