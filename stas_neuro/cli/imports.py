"""Opening of the model that ``compile`` or ``train`` is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stas_neuro.arrays import read_npz
from stas_neuro.compiler.opened import Opened, open_source, open_trained
from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError
from stas_neuro.importers import ImportOptions, file_of, is_factory, is_netx, is_nir, is_onnx
from stas_neuro.importers.weights import WeightsOptions, open_weights

EXAMPLE = ("example", "axes", "classes", "mean", "std")
"""Arrays of the file with the example; the first is required."""
_SAVE = "write it with numpy.savez(file, example=images)"


@dataclass(frozen=True, kw_only=True)
class Given:
    """Options of MODEL, each of which applies to some kinds of it.

    Parameters
    ----------
    weights, example : Path, optional
        With file.py:function; an example with an ONNX file too.
    ema : bool, optional
        With file.py:function and weights; None if `released` has it.
    released : WeightsOptions, optional
        With a file of released weights.
    dt : float, optional
        With a NIR file.
    time_steps : int, optional
        With a NIR or netx file, or a network of ReLUs (a function that returns its module, or an ONNX file);
        None if `released` has it.
    input_shape : tuple of int, optional
        With a netx file.
    stem, stem_mode : str, optional
        With such a network.
    """

    weights: Path | None = None
    ema: bool | None = None
    example: Path | None = None
    released: WeightsOptions | None = None
    dt: float | None = None
    time_steps: int | None = None
    input_shape: tuple[int, ...] | None = None
    stem: str | None = None
    stem_mode: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The given options."""
        return tuple(
            {"released": "--arch"}.get(name, f"--{name.replace('_', '-')}")
            for name, value in vars(self).items()
            if value is not None
        )


def imported_files(model: Path, given: Given) -> list[Path]:
    """Return the files or the directory that MODEL is read from.

    Raises
    ------
    InputError
        If options do not apply to this kind of MODEL.
    """
    kind, uses = _kind_of(model)
    for name in ("weights", "ema", "example", "dt", "time_steps", "input_shape", "stem", "stem_mode"):
        if getattr(given, name) is not None and name not in uses:
            option = f"--{name.replace('_', '-')}"
            remedy = f"leave {option} out" + (
                "" if uses else ", or give --arch with a file of released weights"
            )
            raise InputError(f"{option} is given, and {model} is {kind}", remedy)
    if uses and given.released is not None:
        what = f"--arch is given, and {model} is not a file of released weights"
        raise InputError(what, "leave --arch out")
    own = file_of(model) if is_factory(model) else model
    return [each for each in (own, given.weights, given.example) if each is not None]


def _kind_of(model: Path) -> tuple[str, tuple[str, ...]]:
    """Return the kind of MODEL in words, and which options of `Given` but `released` apply to it."""
    if is_factory(model):
        return "file.py:function", ("weights", "ema", "example", "time_steps", "stem", "stem_mode")
    if is_nir(model):
        return "a NIR file", ("dt", "time_steps")
    if is_netx(model):
        return "a netx file", ("time_steps", "input_shape")
    if is_onnx(model):
        return "an ONNX file", ("example", "time_steps", "stem", "stem_mode")
    return "not file.py:function, a NIR or a netx file", ()


def open_named(model: Path, given: Given) -> Opened:
    """Open a checkpoint, a bundle, released weights, a NIR, netx or ONNX file, or file.py:function."""
    if given.released is not None:
        return open_trained(open_weights(model, given.released))
    if is_onnx(model) and given.example is None:
        return open_source(model, ImportOptions(time_steps=given.time_steps))
    if is_nir(model):
        return open_source(model, ImportOptions(dt=given.dt, time_steps=given.time_steps))
    if is_netx(model):
        return open_source(model, ImportOptions(time_steps=given.time_steps, input_shape=given.input_shape))
    if not is_factory(model) and not is_onnx(model):
        return open_trained(model)
    if given.example is None:
        raise InputError("no example is given", "give --example, an .npz whose array example contains images")
    read = _read_options(given, given.example)
    converted = {name: getattr(given, name) for name in ("time_steps", "stem", "stem_mode")}
    opened = open_source(model, replace(read, **converted))
    return replace(opened, files=(*opened.files, given.example))


def _read_options(given: Given, example: Path) -> ImportOptions:
    try:
        arrays = read_npz(example, EXAMPLE)
    except (BadDocument, OSError) as error:
        raise InputError(f"{example}: {error}", _SAVE) from error
    if "example" not in arrays:
        raise InputError(f"{example} has no array named example", _SAVE)
    lists = {name: arrays[name].tolist() for name in ("classes", "mean", "std") if name in arrays}
    axes = str(arrays["axes"]) if "axes" in arrays else None
    return ImportOptions(
        example=arrays["example"], axes=axes, weights=given.weights, ema=bool(given.ema), **lists
    )
