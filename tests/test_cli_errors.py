"""Bad input: exit code 2 and one line that names what is wrong and what to do, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import make_checkpoint, make_data, start, stas
from safetensors.numpy import load_file, save_file

from stas_neuro.cli import main


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a checkpoint, a bundle of it, data, and a run."""
    home = tmp_path_factory.mktemp("good")
    make_checkpoint(home / "checkpoint")
    make_data(home / "data.npz", 3)
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


def edit_json(path: str, **changes: Any) -> None:
    document = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(document | changes))


def nothing() -> None: ...


def remove(path: str) -> Callable[[], None]:
    return lambda: Path(path).unlink()


def write(path: str, content: bytes) -> Callable[[], None]:
    return lambda: Path(path).write_bytes(content) and None  # type: ignore[return-value]


def truncate(path: str) -> Callable[[], None]:
    def spoil() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])

    return spoil


def config(**changes: Any) -> Callable[[], None]:
    return lambda: edit_json("checkpoint/config.json", **changes)


def weights(name: str, value: Any) -> Callable[[], None]:
    """Put a value into a tensor of the checkpoint, or without one take the tensor away."""

    def spoil() -> None:
        tensors = load_file("checkpoint/model.safetensors")
        if value is None:
            del tensors[name]
        else:
            tensors[name].flat[0] = value
        save_file(tensors, "checkpoint/model.safetensors")

    return spoil


def images(**arrays: Any) -> Callable[[], None]:
    return lambda: np.savez("data.npz", **arrays)


def damage(path: str, place: int) -> Callable[[], None]:
    def spoil() -> None:
        content = bytearray(Path(path).read_bytes())
        content[place : place + 8] = bytes(255 - byte for byte in content[place : place + 8])
        Path(path).write_bytes(content)

    return spoil


def npy(path: str) -> Callable[[], None]:
    def spoil() -> None:
        with Path(path).open("wb") as stream:
            np.save(stream, PIXELS)

    return spoil


def idx(damaged: bool) -> Callable[[], None]:
    """Write IDX files whose images are short of one byte, or whose compression is broken."""

    def spoil() -> None:
        header = struct.pack(">xxBB3I", 8, 3, *PIXELS.shape)
        images = gzip.compress(header + PIXELS.tobytes()[1:])
        if damaged:
            images = images[:12] + bytes(8) + images[20:]
        Path("idx").mkdir()
        Path("idx/t10k-images-idx3-ubyte.gz").write_bytes(images)
        Path("idx/t10k-labels-idx1-ubyte").write_bytes(struct.pack(">xxBBI", 8, 1, 2) + bytes(2))

    return spoil


def newer() -> None:
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    edit_json(
        "bundle/manifest.json", schema_version=99, provenance=manifest["provenance"] | {"tool_version": "9.1"}
    )


COMPILE = ("compile", "checkpoint", "-o", "new")
RUN = ("run", "bundle", "--data", "data.npz", "-o", "new")
TRAIN = ("train", "--data", "data.npz", "--preset", "tiny", "--holdout", "1", "-o", "new")
PIXELS = np.zeros((2, 8, 8), np.uint8)

BAD: dict[str, tuple[Callable[[], None], tuple[str, ...], tuple[str, ...]]] = {
    # checkpoints
    "no checkpoint": (
        nothing,
        ("compile", "missing", "-o", "new"),
        ("missing/config.json not found", "give a"),
    ),
    "no weights": (
        remove("checkpoint/model.safetensors"),
        COMPILE,
        ("model.safetensors not found", "give a"),
    ),
    "truncated weights": (
        truncate("checkpoint/model.safetensors"),
        COMPILE,
        ("checkpoint/model.safetensors: damaged or truncated", "again"),
    ),
    "NaN weight": (
        weights("blocks.0.q.weight", np.nan),
        COMPILE,
        ("checkpoint/model.safetensors: blocks.0.q.weight holds NaN", "give weights"),
    ),
    "missing weight": (weights("head.bias", None), COMPILE, ("head.bias is missing", "give weights")),
    "config is no JSON": (
        write("checkpoint/config.json", b"{"),
        COMPILE,
        ("config.json: not JSON", "restore"),
    ),
    "config key": (config(tiem_steps=3), COMPILE, ("config.json: unknown key 'tiem_steps'", "'time_steps'")),
    "config type": (config(dim="16"), COMPILE, ("config.json: dim is '16', a str", "give a int")),
    "heads": (config(heads=3), COMPILE, ("config.json", "heads=3 does not divide dim=16", "correct")),
    "patch": (config(image_size=9), COMPILE, ("patch_size=2 does not divide image_size=9", "correct")),
    "other config": (config(dim=32, heads=2), COMPILE, ("has shape", "config.json")),
    "epsilon": (nothing, (*COMPILE, "--epsilon", "1.5"), ("epsilon=1.5 is outside [0, 1)", "correct")),
    # bundles
    "no bundle": (nothing, ("inspect", "missing"), ("missing does not exist", "compile")),
    "bundle is a checkpoint": (
        nothing,
        ("inspect", "checkpoint"),
        ("checkpoint has no manifest.json", "give"),
    ),
    "newer bundle": (newer, RUN, ("bundle has schema version 99", "install stas-neuro 9.1")),
    "damaged bundle": (
        truncate("bundle/tensors.safetensors"),
        RUN,
        ("bundle/tensors.safetensors is not what its SHA-256", "copy"),
    ),
    "incomplete bundle": (remove("bundle/graph.json"), RUN, ("bundle has no graph.json", "compile")),
    "zip": (write("new.zip", b"PK"), ("inspect", "new.zip"), ("new.zip is no readable zip file", "copy")),
    # data
    "no data": (
        nothing,
        ("run", "bundle", "--data", "missing"),
        ("data 'missing' not found", "fashion-mnist"),
    ),
    "no npz": (nothing, ("run", "bundle", "--data", "missing.npz"), ("missing.npz not found", "give")),
    "text for data": (
        write("data.npz", b"hello"),
        RUN,
        ("data.npz: not a readable .npz file", "numpy.savez"),
    ),
    "truncated data": (truncate("data.npz"), RUN, ("data.npz: not a readable .npz file", "numpy.savez")),
    "damaged data": (
        damage("data.npz", 200),
        RUN,
        ("data.npz: not a readable .npz file", "numpy.savez"),
    ),
    "npy": (npy("data.npz"), RUN, ("data.npz: not a readable .npz file", "numpy.savez")),
    "no IDX files": (
        nothing,
        ("run", "bundle", "--data", "run"),
        ("run/t10k-images-idx3-ubyte (or .gz) not found", "give a directory"),
    ),
    "damaged IDX file": (
        idx(damaged=True),
        ("run", "bundle", "--data", "idx"),
        ("idx/t10k-images-idx3-ubyte.gz: not a readable IDX file", "again"),
    ),
    "truncated IDX file": (
        idx(damaged=False),
        ("run", "bundle", "--data", "idx"),
        ("idx/t10k-images-idx3-ubyte.gz: truncated", "again"),
    ),
    "array name": (images(pictures=PIXELS), RUN, ("data.npz: holds no array named images", "name")),
    "empty data": (images(images=PIXELS[:0]), RUN, ("data.npz: holds no images", "give at least one")),
    "NaN pixel": (images(images=PIXELS * np.nan), RUN, ("data.npz: images hold NaN", "remove")),
    "labels": (
        images(images=PIXELS, labels=np.zeros(3, int)),
        RUN,
        ("labels are int64 of shape (3,)", "give one"),
    ),
    "image shape": (
        images(images=np.zeros((2, 9, 7), np.uint8)),
        RUN,
        ("data.npz: 2 images of shape (1, 9, 7), the model takes (1, 8, 8)", "give data"),
    ),
    "image shape for verify": (
        images(images=np.zeros((2, 3, 8, 8), np.uint8)),
        ("verify", "bundle", "--data", "data.npz"),
        ("data.npz: 2 images of shape (3, 8, 8), the model takes (1, 8, 8)", "give data"),
    ),
    # training
    "unlabelled": (images(images=PIXELS), TRAIN, ("data.npz: has no labels", "add an array named labels")),
    "not square": (
        images(images=np.zeros((4, 8, 6), np.uint8), labels=np.zeros(4, int)),
        TRAIN,
        ("data.npz: images are 8x6", "crop"),
    ),
    "too few": (nothing, TRAIN, ("2 training images are fewer than batch_size=128", "lower the batch size")),
    "impossible model": (nothing, (*TRAIN, "--heads", "5"), ("heads=5 does not divide dim=16", "correct")),
    "impossible patch": (
        nothing,
        (*TRAIN, "--patch-size", "16"),
        ("patch_size=16 does not divide", "correct"),
    ),
    "no labels to hold out": (nothing, (*TRAIN, "--holdout", "9"), ("3 images do not leave any", "lower")),
    "resume damaged": (
        write("run/last.safetensors", b"x"),
        (*TRAIN[:-1], "run", "--batch-size", "1", "--resume"),
        ("run/last.safetensors: damaged", "without --resume"),
    ),
    # runs and profiles
    "no run": (
        nothing,
        ("estimate", "missing", "--profile", "loihi2"),
        ("missing: No such file", "give a file"),
    ),
    "no activity": (
        remove("run/activity.json"),
        ("estimate", "run", "--profile", "loihi2"),
        ("run has no activity.json", "give what run wrote"),
    ),
    "damaged activity": (
        truncate("run/activity.json"),
        ("compare", "run"),
        ("run/activity.json: ", "docs/activity.md"),
    ),
    "no profile": (nothing, ("estimate", "run", "--profile", "loihi3"), ("'loihi3'", "loihi1, loihi2")),
    "no profile file": (
        nothing,
        ("profiles", "validate", "my.toml"),
        ("my.toml: No such file", "give a file"),
    ),
    "profile entry": (
        write("my.toml", b'schema_version = 1\nname = "x"\ntitle = "x"\ngraded_spikes = 1\n'),
        ("profiles", "show", "my.toml"),
        ("my.toml: graded_spikes", "docs/profiles.md"),
    ),
    "feedback": (
        nothing,
        ("estimate", "run", "--profile", "loihi2", "--schedule", "pipelined"),
        ("feeds the next model step", "serial"),
    ),
    "weight bits": (
        nothing,
        ("estimate", "run", "--profile", "loihi2", "--weight-bits", "16"),
        ("weights have 16 bits", "loihi2 holds at most 9"),
    ),
    # what is at the output already
    "output is a file": (write("new", b"mine"), COMPILE, ("new exists", "choose another path")),
    "output is no bundle": (
        nothing,
        ("compile", "checkpoint", "-o", "run", "--force"),
        ("run exists", "choose"),
    ),
    "output is no run": (
        nothing,
        (*RUN[:-1], "checkpoint", "--force"),
        ("checkpoint exists and has no", "choose"),
    ),
    "output is a run": (nothing, (*RUN[:-1], "run"), ("run exists", "--force")),
    "output is no training": (
        nothing,
        (*TRAIN[:-1], "run", "--force"),
        ("run exists and holds no training", "choose another path"),
    ),
    "output is no package": (
        nothing,
        ("convert", "bundle", "--to", "lava", "-o", "run", "--force"),
        ("run exists", "choose another path"),
    ),
    "output below a file": (nothing, (*COMPILE[:-1], "data.npz/new"), ("data.npz", "choose a place")),
    # the command line itself
    "no command": (nothing, ("rum",), ("No such command 'rum'", "see stas-export --help")),
    "no option": (nothing, ("run", "bundle"), ("Missing option '--data'", "see stas-export run --help")),
    "unknown option": (nothing, (*COMPILE, "--bitz", "8"), ("--bitz", "see stas-export compile --help")),
    "choice": (nothing, (*COMPILE, "--accumulate", "sum"), ("'sum' is not one of", "raster", "--help")),
    "limit": (nothing, (*RUN, "--limit", "0"), ("--limit", "0", "see stas-export run --help")),
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


@pytest.fixture
def full_disk(home: Path) -> Iterator[None]:
    """Let every write beyond 4 KiB fail half-way, as on a full disk; it is the system that refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores the signal that comes with it
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", WRITING)
def test_a_write_that_fails_half_way_leaves_nothing(what: str, home: Path, full_disk: None) -> None:
    before = everything(home)
    done = stas(*WRITING[what])
    assert done.code == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
    assert "new" in done.err and "File too large" in done.err
    assert everything(home) == before


def test_training_on_a_full_disk_is_one_line(home: Path, full_disk: None) -> None:
    quick = ("--stage1-epochs", "1", "--stage2-epochs", "0", "--batch-size", "1")
    done = stas(*TRAIN, *quick)
    assert done.code == 2
    assert done.err.startswith("error: new/last.safetensors: File too large; ") and done.err.count("\n") == 1
    assert [path.name for path in Path("new").iterdir()] == ["log.jsonl"]


def test_no_space_left_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    before = everything(home)
    monkeypatch.setattr(Path, "write_bytes", full)
    done = stas(*COMPILE)
    assert done.code == 2
    assert done.err == f"error: {home / 'new'}: No space left on device; choose a place that can be written\n"
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
    assert f"pip install 'stas-neuro[{part}]'" in done.stderr and done.stderr.count("\n") == 1
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

    monkeypatch.setattr("stas_neuro.cli.inspect.load_bundle", broken)
    with pytest.raises(ZeroDivisionError):
        stas("inspect", "bundle")
