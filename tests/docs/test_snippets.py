"""Code in the documentation runs as it is printed, page by page, where the files are that it names."""

from __future__ import annotations

import gzip
import re
import runpy
import shlex
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from support.cli_support import fine, make_checkpoint
from support.foreign_models import STYLES, Foreign
from support.netx_graphs import inputs_for, netx_graph
from support.nir_graphs import small_graph
from support.paths import EXAMPLES, ROOT

import stas_neuro
from stas_neuro.cli import PROGRAM, cli
from stas_neuro.exporters.netx.write import write_netx
from stas_neuro.exporters.nir.write import write_nir

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").rglob("*.md"),
    *EXAMPLES.rglob("*.md"),
]
PAGES = {path.relative_to(ROOT).as_posix(): FENCE.findall(path.read_text()) for path in sorted(FILES)}
CALLING = [
    page for page, blocks in PAGES.items() if any(f"\n{PROGRAM} " in f"\n{code}" for _, code in blocks)
]
"""Pages that call the program."""
SLOW = {"README.md", "docs/importing.md", "docs/optimise.md", "docs/sweep.md", "docs/temporal.md"}
HOURS = ["train", "--data", "fashion-mnist"]
"""Begin of commands that take hours; their results are among the files."""


def calls(code: str) -> list[list[str]]:
    """Return the arguments of each call of the program in a block."""
    return [
        shlex.split(re.split(r" [|>&;]", line)[0], comments=True)[1:]
        for line in code.replace("\\\n", " ").splitlines()
        if line.startswith(f"{PROGRAM} ")
    ]


def block(page: str, has: str) -> str:
    """Return the code of a page that has some text."""
    return next(code for _, code in PAGES[page] if has in code)


def idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an array of bytes in the format of MNIST."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the files that the pages name."""
    home = tmp_path_factory.mktemp("workshop")
    (home / "examples").symlink_to(EXAMPLES)
    digits = stas_neuro.load_data("digits")
    checkpoint = make_checkpoint(home / "runs" / "digits", num_classes=10, classes=digits.classes)
    fine("compile", checkpoint, "--bits", "8", "--calibrate", "digits", "-o", home / "digits.stas")
    fine("run", home / "digits.stas", "--data", "digits", "--limit", "4", "-o", home / "run")
    for name in ("first", "second", "runs/digits-lava"):
        shutil.copytree(home / "run", home / name)
    (home / "runs" / "mine").symlink_to(EXAMPLES / "models" / "fashion-spikformer")
    fashion = stas_neuro.load_data(str(EXAMPLES / "data" / "fashion-mnist-512.npz"))
    (home / "fashion").mkdir()
    for split in ("train", "t10k"):
        idx(home / "fashion" / f"{split}-images-idx3-ubyte.gz", fashion.images[:, 0])
        idx(home / "fashion" / f"{split}-labels-idx1-ubyte.gz", fashion.labels)
    write_netx(netx_graph(0), home / "net.net")
    write_nir(small_graph(), home / "net.nir")
    np.savez(home / "events.npz", images=inputs_for(netx_graph(0), 2).astype(np.uint8))
    (home / "board.csv").write_text(block("docs/calibration.md", "run,synops"))
    (home / "config.toml").write_text(block("docs/sweep.md", "epsilon = [0.01"))
    (home / "my_chip.toml").write_text(block("docs/profiles.md", 'name = "my_loihi"'))
    foreign = Foreign(STYLES["Spikingformer, ImageNet"], heads=8, dim=32, depth=1)
    torch.save({"model": foreign.state_dict()}, home / "checkpoint-284.pth.tar")
    foreign = Foreign(STYLES["Spikformer, CIFAR"], heads=12, dim=48, depth=1)
    torch.save(foreign.state_dict(), home / "weights.pth")
    cnn = runpy.run_path(str(EXAMPLES / "relu_networks.py"))["Cnn"]()
    torch.save(cnn.state_dict(), home / "cnn.pth")
    np.savez(home / "fashion.npz", example=(fashion.images[:64] / 255).astype(np.float32))
    transformer = runpy.run_path(str(EXAMPLES / "small_transformer.py"))["make"]()
    torch.save(transformer.state_dict(), home / "net.pth")
    shutil.copy(EXAMPLES / "small_transformer.py", home / "net.py")
    example = (digits.images[:4] / 255).astype(np.float32)
    np.savez(home / "images.npz", example=example, classes=digits.classes)
    return home


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page, blocks in PAGES.items()
        if page in CALLING or "python" in [language for language, _ in blocks]
    ],
)
def test_a_page_runs_as_printed(
    page: str, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(workshop, tmp_path / "home", symlinks=True))
    monkeypatch.setenv("STAS_FASHION_MNIST", "fashion")
    monkeypatch.setattr(sys, "path", [*sys.path])
    names: dict[str, Any] = {}
    for language, code in PAGES[page]:
        if language == "python":
            exec(compile(code, page, "exec"), names)
        for arguments in calls(code):
            if arguments[:3] != HOURS:
                fine(*("run" if word == "RUN" else word for word in arguments))


@pytest.mark.parametrize("page", CALLING)
def test_commands_have_the_options_that_are_printed(page: str) -> None:
    for arguments in (arguments for _, code in PAGES[page] for arguments in calls(code)):
        command: click.Command = cli
        context, given = click.Context(command, info_name=PROGRAM), arguments
        while isinstance(command, click.Group):
            name, found, given = command.resolve_command(context, given)
            assert found is not None, arguments
            command, context = found, click.Context(found, parent=context, info_name=name)
        _, left, _ = command.make_parser(context).parse_args(list(given))
        assert not left, arguments
