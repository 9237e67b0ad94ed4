"""Bad input: exit code 2 and one line that names what is wrong and what to do, and nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli_bad_inputs import BAD, COMPILE, RUN, TRAIN
from support.cli_support import make_checkpoint, make_data, start, stas

from stas_neuro.cli import main


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a checkpoint, a bundle of it, data, and a run."""
    home = tmp_path_factory.mktemp("good")
    make_checkpoint(home / "checkpoint")
    make_data(home / "data.npz", 6)
    assert stas("compile", home / "checkpoint", "-o", home / "bundle").code == 0
    assert stas("run", home / "bundle", "--data", home / "data.npz", "-o", home / "run").code == 0
    return home


@pytest.fixture
def home(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same to spoil, as the working directory."""
    home = tmp_path / "home"
    shutil.copytree(good, home)
    monkeypatch.chdir(home)
    return home


def everything(home: Path) -> dict[str, bytes]:
    """Every file below a directory with its content, directories as empty ones."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else b"" for path in home.rglob("*")
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_a_remedy(case: str, home: Path) -> None:
    spoil, arguments, expected = BAD[case]
    spoil()
    before = everything(home)
    done = stas(*arguments)
    assert done.code == 2, done.err or done.out
    assert done.out == ""
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert "; " in done.err
    for text in expected:
        assert text in done.err, done.err
    assert everything(home) == before
    assert stas(*arguments, "--json").out == ""


def test_force_does_not_touch_what_is_no_output(home: Path) -> None:
    """A mistyped output directory must not cost anybody their files."""
    before = everything(home)
    for arguments in (
        ("compile", "checkpoint", "-o", "."),
        ("run", "bundle", "--data", "data.npz", "-o", "."),
        ("convert", "bundle", "--to", "lava", "-o", "."),
        (*TRAIN[:-1], "."),
        ("demo", "-o", "checkpoint"),
    ):
        assert stas(*arguments, "--force").code == 2
    assert everything(home) == before


WRITING = {
    "bundle": COMPILE,
    "zipped bundle": ("compile", "checkpoint", "-o", "new.zip"),
    "run": RUN,
    "lava package": ("convert", "bundle", "--to", "lava", "-o", "new"),
}


@contextmanager
def full_disk() -> Iterator[None]:
    """Let every write beyond 4 KiB fail half-way, as on a full disk; it is the system that refuses.

    Around the command alone: pytest's own output may go to a file that is longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores the signal that comes with it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", WRITING)
def test_a_write_that_fails_half_way_leaves_nothing(what: str, home: Path) -> None:
    before = everything(home)
    with full_disk():
        done = stas(*WRITING[what])
    assert done.code == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert "new" in done.err and "File too large" in done.err
    assert everything(home) == before


def test_training_on_a_full_disk_is_one_line(home: Path) -> None:
    quick = ("--stage1-epochs", "1", "--stage2-epochs", "0", "--batch-size", "1")
    with full_disk():
        done = stas(*TRAIN, *quick)
    assert done.code == 2
    *progress, last = done.err.splitlines()
    assert last.startswith("error: new/last.safetensors: File too large; ")
    assert not any(line.startswith("error") for line in progress)
    assert [path.name for path in Path("new").iterdir()] == ["log.jsonl"]


def test_no_space_left_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    before = everything(home)
    monkeypatch.setattr(Path, "write_bytes", full)
    done = stas(*COMPILE)
    assert done.code == 2
    assert done.err == f"error: {home / 'new'}: No space left on device; choose a writable path\n"
    assert everything(home) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_one_line(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = start("inspect", "bundle", "--json", cwd=home, stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device; free some space\n")


@pytest.mark.parametrize(("part", "arguments"), [("torch", COMPILE), ("lava", (*RUN, "--backend", "lava"))])
def test_a_missing_optional_part_says_how_to_install_it(
    part: str, arguments: tuple[str, ...], home: Path
) -> None:
    start = f"import sys; sys.modules[{part!r}] = None; from stas_neuro.cli import main"
    code = f"{start}; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    by_hand = part == "lava" and sys.version_info >= (3, 11)  # Lava declares no newer Python than 3.10
    named = "'torch>=" if part == "torch" else "'lava-nc=="
    command = "--ignore-requires-python lava-nc==0.10.0" if by_hand else f"pip install {named}"
    assert done.stderr.count("pip install") == (2 if by_hand else 1) and command in done.stderr
    assert "uv sync --all-extras" in done.stderr and done.stderr.count("\n") == 1
    assert not Path("new").exists()


def test_an_error_of_the_launchers_other_workers_is_not_said_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["inspect", "missing"]) == 2
    assert capsys.readouterr().err == ""


def test_our_own_mistakes_are_not_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stas_neuro.bundle.load_bundle", broken)
    with pytest.raises(ZeroDivisionError):
        stas("inspect", "bundle")
