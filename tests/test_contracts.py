"""The import contracts hold and catch what they are there for; most of the package needs no framework."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

NEED_A_FRAMEWORK = (
    "exporters.lava",
    "fast",
    "frontend",
    "importers.ann",
    "importers.ann_graph",
    "importers.ann_units",
    "importers.blocks",
    "importers.build",
    "importers.chains",
    "importers.factory",
    "importers.gates",
    "importers.key_rules",
    "importers.libraries",
    "importers.lower",
    "importers.measure",
    "importers.module_weights",
    "importers.neurons",
    "importers.onnx_networks",
    "importers.recurrence",
    "importers.region",
    "importers.rules",
    "importers.rules_attention",
    "importers.rules_layers",
    "importers.rules_layout",
    "importers.rules_neurons",
    "importers.rules_readout",
    "importers.rules_sums",
    "importers.slices",
    "importers.torch_module",
    "importers.trace",
    "importers.values",
    "importers.verify",
    "importers.weights_file",
    "importers.weights_graph",
    "importers.weights_unwrap",
    "models",
    "training",
)


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on the package in `tree`."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def test_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


INTRUDERS = {
    "ir.intruder1": ("import safetensors", "neither a framework"),
    "ir.intruder2": ("from stas_neuro.bundle import Bundle", "neither a framework"),
    "analysis.intruder3": ("import safetensors", "neither a framework"),
    "analysis.intruder4": ("import stas_neuro.mapping", "Data goes one way"),
    "energy.intruder5": ("def price():\n    import torch", "torch is imported only in"),
    "reference.intruder6": ("import lava.proc", "Lava is imported only in"),
    "reference.intruder7": ("from stas_neuro.models.stas import STAS", "share no arithmetic"),
    "report.intruder8": ("import stas_neuro.cli", "Data goes one way"),
    "activity.intruder9": ("import stas_neuro.reference", "Data goes one way"),
    "energy.intruder10": ("from stas_neuro.activity.layers import layers_of", "never a graph"),
}
"""Modules, what each imports, and the contract that it breaks."""


def test_contracts_catch(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "stas_neuro",
        tmp_path / "stas_neuro",
        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"),
    )
    for module, (line, _) in INTRUDERS.items():
        (tmp_path / "stas_neuro" / f"{module.replace('.', '/')}.py").write_text(line + "\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    # What is broken is told below the summary, a contract after another with its name underlined.
    _, broken = done.stdout.split("Broken contracts\n", 1)
    found = {title: told for title, told in re.findall(r"^(.+)\n-+\n((?:(?!.+\n-+\n).*\n?)*)", broken, re.M)}
    for module, (_, contract) in INTRUDERS.items():
        (told,) = [told for title, told in found.items() if contract in title]
        assert f"stas_neuro.{module}" in told, done.stdout


def test_everything_else_imports_neither_torch_nor_lava() -> None:
    # The command line must start without torch, and a bundle run where there is none.
    code = f"""
import importlib, pkgutil, sys
import stas_neuro
skipped = tuple("stas_neuro." + name for name in {NEED_A_FRAMEWORK!r})
def walk(path, prefix):
    for info in pkgutil.iter_modules(path, prefix):
        if info.name in skipped or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        if info.ispkg:
            walk(module.__path__, info.name + ".")
walk(stas_neuro.__path__, "stas_neuro.")
assert "stas_neuro.cli" in sys.modules and "stas_neuro.reference" in sys.modules
print([name for name in ("torch", "norse", "lava", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_needs_neither_torch_nor_lava() -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["lava"] = None
sys.argv = ["stas-export", "--help"]
from stas_neuro.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout
