"""The compiler: from a trained model to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import api
from stas_neuro.bundle import Bundle
from stas_neuro.compiler.compilation import Compilation
from stas_neuro.compiler.opened import open_model
from stas_neuro.compiler.options import CompileOptions
from stas_neuro.compiler.shared import Compiler, Note
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel


def compile(
    model: StasModel | str | Path,
    options: CompileOptions | None = None,
    *,
    note: Note | None = None,
    progress: api.Progress | None = None,
    **words: Any,
) -> Bundle:
    """Compile a trained model.

    Parameters
    ----------
    model : StasModel, str or Path
        A model, or the directory of a checkpoint.
    options : CompileOptions, optional
        Or its fields as keywords: ``compile("runs/digits", bits=8, calibrate="digits")``.
    note : callable, optional
        Called with a sentence where images that were given are no random sample.
    progress : callable, optional
        Called with the number of finished images, and of all, of a profiling run.

    Returns
    -------
    Bundle
        In memory; `save_bundle` writes it. Its provenance records options and passes.

    Raises
    ------
    InputError
        If the checkpoint is missing or damaged, options do not fit, or the network cannot be expressed: all
        reasons at once, each with its node.
    """
    if options is None:
        options = CompileOptions(**words)
    elif words:
        raise InputError("options are given twice", "give CompileOptions, or keywords")
    return Compilation(Compiler(open_model(model), note=note, progress=progress), options).bundle()


def replay(bundle: Bundle) -> Bundle:
    """Compile a bundle anew, from its checkpoint and the options that it records.

    Raises
    ------
    InputError
        As `compile`; or when the bundle does not record a checkpoint.
    """
    if not bundle.provenance.source:
        raise InputError("the bundle was compiled from a model in memory", "compile that model again")
    options: dict[str, Any] = dict(bundle.provenance.options)
    if "input_encoding" not in options:
        options.pop("bits", None)  # they are those of fine-tuning, which come with the checkpoint
    return compile(bundle.provenance.source, **options)
