"""Bad input to commands: how to spoil a good directory, what is called then, and what the error must say."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


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


OPTIMISE = ("optimise", "checkpoint", "--data", "data.npz", "-o", "best")
COMPILE = ("compile", "checkpoint", "-o", "new")
RUN = ("run", "bundle", "--data", "data.npz", "-o", "new")
TRAIN = ("train", "--data", "data.npz", "--preset", "tiny", "--holdout", "1", "-o", "new")
PIXELS = np.zeros((2, 8, 8), np.uint8)

BAD: dict[str, tuple[Callable[[], None], tuple[str, ...], tuple[str, ...]]] = {
    # checkpoints
    "no checkpoint": (
        nothing,
        ("compile", "missing", "-o", "new"),
        ("there is no model or file 'missing'", "order/stage1", "the path of a checkpoint"),
    ),
    "no weights": (
        remove("checkpoint/model.safetensors"),
        COMPILE,
        ("model.safetensors not found", "use a"),
    ),
    "truncated weights": (
        truncate("checkpoint/model.safetensors"),
        COMPILE,
        ("checkpoint/model.safetensors: damaged or truncated", "again"),
    ),
    "NaN weight": (
        weights("blocks.0.q.weight", np.nan),
        COMPILE,
        ("checkpoint/model.safetensors: blocks.0.q.weight has NaN", "use the weights"),
    ),
    "missing weight": (weights("head.bias", None), COMPILE, ("head.bias is missing", "use the weights")),
    "config is no JSON": (
        write("checkpoint/config.json", b"{"),
        COMPILE,
        ("config.json: is not JSON", "restore"),
    ),
    "config key": (config(tiem_steps=3), COMPILE, ("config.json: unknown key 'tiem_steps'", "'time_steps'")),
    "config type": (
        config(dim="16"),
        COMPILE,
        ("config.json: dim is '16', a str", "use a value of type int"),
    ),
    "heads": (config(heads=3), COMPILE, ("config.json", "heads=3 does not divide dim=16", "correct")),
    "patch": (config(image_size=9), COMPILE, ("patch_size=2 does not divide image_size=9", "correct")),
    "other config": (config(dim=32, heads=2), COMPILE, ("has shape", "config.json")),
    "epsilon": (nothing, (*COMPILE, "--epsilon", "1.5"), ("epsilon=1.5 is outside [0, 1)", "correct")),
    "cap without halting": (
        nothing,
        (*COMPILE, "--accumulate", "off", "--max-visits", "3"),
        ("max-visits is of halting, and accumulate is off", "leave one"),
    ),
    "cap too low": (
        nothing,
        (*COMPILE, "--accumulate", "block", "--max-visits", "2"),
        ("max_visits=2 is below the 3 visits that a token makes", "correct"),
    ),
    "more groups than tokens": (
        nothing,
        (*COMPILE, "--token-groups", "17"),
        ("token_groups=17 is not a whole number from 0 to 16 tokens", "correct"),
    ),
    "groups without halting": (
        nothing,
        (*TRAIN, "--accumulate", "off", "--token-groups", "2"),
        ("--token-groups is of halting, and --accumulate is off", "leave one"),
    ),
    # bundles
    "no bundle": (nothing, ("inspect", "missing"), ("missing does not exist", "compile")),
    "bundle is a checkpoint": (
        nothing,
        ("inspect", "checkpoint"),
        ("checkpoint is a checkpoint, not a bundle", "stas-export compile checkpoint -o BUNDLE"),
    ),
    "newer bundle": (newer, RUN, ("bundle has schema version 99", "install stas-neuro 9.1")),
    "damaged bundle": (
        truncate("bundle/tensors.safetensors"),
        RUN,
        ("bundle/tensors.safetensors does not match its SHA-256", "copy"),
    ),
    "incomplete bundle": (remove("bundle/graph.json"), RUN, ("bundle has no graph.json", "compile")),
    "zip": (write("new.zip", b"PK"), ("inspect", "new.zip"), ("new.zip is not a readable zip file", "copy")),
    # data
    "no data": (
        nothing,
        ("run", "bundle", "--data", "missing"),
        ("there is no data set or file 'missing'", "fashion-mnist"),
    ),
    "no npz": (
        nothing,
        ("run", "bundle", "--data", "missing.npz"),
        ("missing.npz not found", "use an .npz file"),
    ),
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
        (
            "run/outputs.npz: is no event recording: it has no array x",
            "give the file itself if it has images",
        ),
    ),
    "damaged IDX file": (
        idx(damaged=True),
        ("run", "bundle", "--data", "idx"),
        ("idx/t10k-images-idx3-ubyte.gz: not a readable IDX file", "again"),
    ),
    "truncated IDX file": (
        idx(damaged=False),
        ("run", "bundle", "--data", "idx"),
        ("idx/t10k-images-idx3-ubyte.gz: not a readable IDX file (ends after 127 of 128 bytes)", "again"),
    ),
    "array name": (images(pictures=PIXELS), RUN, ("data.npz: has no array named images", "name")),
    "empty data": (images(images=PIXELS[:0]), RUN, ("data.npz: has no images", "use at least one")),
    "NaN pixel": (images(images=PIXELS * np.nan), RUN, ("data.npz: pixels have NaN", "remove")),
    "labels": (
        images(images=PIXELS, labels=np.zeros(3, int)),
        RUN,
        ("labels are int64 of shape (3,)", "use one"),
    ),
    "label beyond": (
        images(images=PIXELS, labels=np.array([0, 3])),
        RUN,
        ("data.npz: the label of image 1 is 3, outside 0..2", "nought, one, two, from 0"),
    ),
    "label beyond for verify": (
        images(images=PIXELS, labels=np.array([3, 0])),
        ("verify", "bundle", "--data", "data.npz"),
        ("data.npz: the label of image 0 is 3, outside 0..2", "nought, one, two, from 0"),
    ),
    "unknown class": (
        images(images=PIXELS, labels=np.array([0, 1]), classes=["two", "four"]),
        RUN,
        (
            "data.npz: the model has no class four; the data have two, four, the model nought, one, two",
            "name",
        ),
    ),
    "unknown class for verify": (
        images(images=PIXELS, labels=np.array([0, 1]), classes=["two", "four"]),
        ("verify", "bundle", "--data", "data.npz"),
        ("data.npz: the model has no class four", "use the model's class names"),
    ),
    "unknown class for compile": (
        images(images=PIXELS, labels=np.array([0, 1]), classes=["two", "four"]),
        (*COMPILE, "--bits", "8", "--calibrate", "data.npz"),
        ("data.npz: the model has no class four", "use the model's class names"),
    ),
    "class twice": (
        images(images=PIXELS, labels=np.array([0, 1]), classes=["two", "two"]),
        RUN,
        ("data.npz: classes occur more than once: two", "use a different name for each class"),
    ),
    "image shape": (
        images(images=np.zeros((2, 9, 7), np.uint8)),
        RUN,
        ("data.npz: 2 images of shape (1, 9, 7), the model requires (1, 8, 8)", "give images"),
    ),
    "image shape for verify": (
        images(images=np.zeros((2, 3, 8, 8), np.uint8)),
        ("verify", "bundle", "--data", "data.npz"),
        ("data.npz: 2 images of shape (3, 8, 8), the model requires (1, 8, 8)", "give images"),
    ),
    # training
    "unlabelled": (images(images=PIXELS), TRAIN, ("data.npz: has no labels", "add an array named labels")),
    "not square": (
        images(images=np.zeros((4, 8, 6), np.uint8), labels=np.zeros(4, int)),
        TRAIN,
        ("data.npz: images are 8x6", "crop"),
    ),
    "gap in labels": (
        images(images=PIXELS, labels=np.array([0, 2])),
        TRAIN,
        ("data.npz: no image is labelled 1, and a new model cannot learn", "without gaps"),
    ),
    "class without images": (
        images(images=PIXELS, labels=np.array([0, 1]), classes=["a", "b", "c"]),
        TRAIN,
        ("data.npz: no image is labelled c, and a new model cannot learn", "add images of it"),
    ),
    "one class": (
        images(images=PIXELS, labels=np.zeros(2, int)),
        TRAIN,
        ("data.npz: all images are of one class, 0", "at least two classes"),
    ),
    "classes held out": (
        images(images=PIXELS, labels=np.array([0, 1])),
        (*TRAIN, "--batch-size", "1"),
        ("with holdout=1 of 2 images, some of its 2 classes have none to train on", "lower the holdout"),
    ),
    "sample": (
        nothing,
        (*TRAIN, "--limit", "2"),
        ("limit=2 is fewer images than data.npz has classes", "one"),
    ),
    "too few": (nothing, TRAIN, ("5 training images are fewer than batch_size=32", "lower the batch size")),
    "impossible model": (nothing, (*TRAIN, "--heads", "5"), ("heads=5 does not divide dim=32", "correct")),
    "impossible patch": (
        nothing,
        (*TRAIN, "--patch-size", "16"),
        ("patch_size=16 does not divide", "correct"),
    ),
    "no labels to hold out": (nothing, (*TRAIN, "--holdout", "9"), ("of 6 images, none are left", "lower")),
    "resume damaged": (
        write("run/last.safetensors", b"x"),
        (*TRAIN[:-1], "run", "--batch-size", "1", "--resume"),
        ("run/last.safetensors: damaged", "without --resume"),
    ),
    # runs and profiles
    "no run": (
        nothing,
        ("estimate", "missing", "--profile", "loihi2"),
        ("missing does not exist", "give a directory written by run, or an activity file"),
    ),
    "no activity": (
        remove("run/activity.json"),
        ("estimate", "run", "--profile", "loihi2"),
        ("run has no activity.json or activity.parquet", "give a directory written by run"),
    ),
    "damaged activity": (
        truncate("run/activity.json"),
        ("compare", "run"),
        ("run/activity.json: ", "docs/activity.md"),
    ),
    "no profile": (
        nothing,
        ("estimate", "run", "--profile", "loihi3"),
        ("'loihi3'", "loihi1, loihi1-fitted, loihi2"),
    ),
    "profile circle": (
        write("a.toml", b'schema_version = 1\nname = "a"\ntitle = "a"\nextends = "a.toml"\n'),
        ("profiles", "show", "a.toml"),
        ("a.toml extends ", "a.toml: a cycle", "remove one of the extends"),
    ),
    "too few measured runs": (
        write("board.csv", b"synops,hops_x,energy_j\n1,2,3\n"),
        ("calibrate", "board.csv", "--profile", "loihi1", "-o", "board.toml"),
        ("board.csv has 1 runs for 2 entries (energy.synaptic_operation, energy.hop_x)", "measure more runs"),
    ),
    "unknown column": (
        write("board.csv", b"spikes,energy_j\n1,2\n"),
        ("calibrate", "board.csv", "--profile", "loihi1", "-o", "board.toml"),
        ("board.csv: there is no column 'spikes'", "use run, energy_j"),
    ),
    "no profile file": (
        nothing,
        ("profiles", "validate", "my.toml"),
        ("my.toml: No such file", "use a readable file"),
    ),
    "profile entry": (
        write(
            "my.toml", b'schema_version = 1\nname = "x"\ntitle = "x"\ngraded_spikes = 1\nstep_law = "sum"\n'
        ),
        ("profiles", "show", "my.toml"),
        ("my.toml: graded_spikes is 1", "it should be a valid boolean"),
    ),
    "report of nothing": (
        nothing,
        ("report", "missing", "-o", "page.html"),
        ("missing does not exist", "give a directory written by run, or an activity file"),
    ),
    "report that is no page": (
        nothing,
        ("report", "run", "-o", "page.pdf"),
        ("page.pdf is no page", "ends in .html"),
    ),
    "report of an image that is not there": (
        nothing,
        ("report", "run", "--profiles", "loihi2", "--images", "0,99", "-o", "page.html"),
        ("there is no image 99 in run", "give numbers from 0 to"),
    ),
    "report of damaged logits": (
        truncate("run/outputs.npz"),
        ("report", "run", "-o", "page.html"),
        ("run/outputs.npz: ", "give a directory written by run"),
    ),
    "picture of no kind": (
        nothing,
        ("compare", "run", "--baseline", "run", "--picture", "saved.pdf"),
        ("saved.pdf: '.pdf' is no kind of picture", "use .svg or .png"),
    ),
    "feedback": (
        nothing,
        ("estimate", "run", "--profile", "loihi2", "--schedule", "pipelined"),
        ("feeds the next model step", "raster"),
    ),
    "weight bits": (
        nothing,
        ("estimate", "run", "--profile", "loihi2", "--weight-bits", "16"),
        ("weights have 16 bits", "use at most 9, the limit of profile loihi2"),
    ),
    "width": (
        nothing,
        ("estimate", "run", "--profile", "loihi2", "--scale-width", "64,wide"),
        ("'wide' is no width", "as 64,128,256"),
    ),
    "rival without a label": (
        nothing,
        (*OPTIMISE, "--rival", "checkpoint"),
        ("--rival checkpoint has no label", "use LABEL=MODEL"),
    ),
    "two rivals of one label": (
        nothing,
        (
            "optimise",
            "checkpoint",
            "--data",
            "data.npz",
            "--rival",
            "T=1=a",
            "--rival",
            "T=1=b",
            "-o",
            "best",
        ),
        ("--rival T=1 is given twice", "a label of its own"),
    ),
    "profile given twice": (
        nothing,
        (
            "optimise",
            "checkpoint",
            "--data",
            "data.npz",
            "--profile",
            "loihi2",
            "--profile",
            "loihi2",
            "-o",
            "best",
        ),
        ("loihi2-single is given twice", "once"),
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
        ("run exists and is not the directory of a training", "choose another path"),
    ),
    "output is no package": (
        nothing,
        ("convert", "bundle", "--to", "lava", "-o", "run", "--force"),
        ("run exists", "choose another path"),
    ),
    "output below a file": (nothing, (*COMPILE[:-1], "data.npz/new"), ("data.npz", "choose a writable path")),
    # the command line itself
    "no command": (
        nothing,
        ("rum",),
        ("there is no command 'rum'; did you mean run?", "See stas-export --help"),
    ),
    "no subcommand": (nothing, ("profiles",), ("Missing command", "see stas-export profiles --help")),
    "no option": (nothing, ("run", "bundle"), ("Missing option '--data'", "see stas-export run --help")),
    "unknown option": (nothing, (*COMPILE, "--bitz", "8"), ("--bitz", "see stas-export compile --help")),
    "mistyped choice": (nothing, (*COMPILE, "--accumulate", "Raster"), ("did you mean raster? See",)),
    "mistyped profile": (nothing, ("profiles", "show", "Loihi-2"), ("did you mean loihi2? Use one of",)),
    "choice": (nothing, (*COMPILE, "--accumulate", "sum"), ("'sum' is not one of", "raster", "--help")),
    "runtime": (
        nothing,
        (*RUN, "--runtime", "multiprocess"),
        ("has no runtime multiprocess", "use the"),
    ),
    "one bit": (nothing, (*COMPILE, "--bits", "1"), ("bits is 1: a signed weight of 1 bit", "use 2 to 9")),
    "one bit to check": (nothing, ("check", "missing", "--bits", "1"), ("bits is 1: ", "use 2 to 9")),
    "one bit to train": (
        nothing,
        ("train", "--data", "missing.npz", "--init", "checkpoint", "--qat", "1", "-o", "new"),
        ("bits is 1: ", "use 2 to 9"),
    ),
    "ten bits": (nothing, (*COMPILE, "--bits", "10"), ("bits is 10", "use 2 to 9")),
    "limit": (nothing, (*RUN, "--limit", "0"), ("--limit", "0", "see stas-export run --help")),
}
