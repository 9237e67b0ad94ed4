"""The compiler: from a trained model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import api
from stas_neuro.bundle import Bundle
from stas_neuro.chips import load_profile, parse_settings
from stas_neuro.compiler.compilation import Compilation
from stas_neuro.compiler.halting import HaltingChoice
from stas_neuro.compiler.opened import open_trained
from stas_neuro.compiler.options import CompileOptions
from stas_neuro.compiler.shared import Compiler, Note
from stas_neuro.errors import InputError
from stas_neuro.importers import is_factory, is_netx, is_nir, is_onnx
from stas_neuro.importers.weights import Weights, WeightsOptions, open_weights
from stas_neuro.ir import Graph

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

Chosen = Callable[[HaltingChoice], None]


def compile(
    model: StasModel | Weights | Graph | str | Path,
    options: CompileOptions | None = None,
    *,
    note: Note | None = None,
    progress: api.Progress | None = None,
    chosen: Chosen | None = None,
    **words: Any,
) -> Bundle:
    """Compile a trained model.

    Parameters
    ----------
    model : StasModel, Weights, Graph, str or Path
        A model, the result of `open_weights` or `open_model`, or the directory of a checkpoint.
    options : CompileOptions, optional
        The options; or give its fields as keywords: ``compile("runs/digits", bits=8, calibrate="digits")``.
    note : callable, optional
        Called with a sentence if the given images are not a random sample.
    progress : callable, optional
        Called with the number of finished images and of all images, of a profiling run and of the search for
        parameters of halting.
    chosen : callable, optional
        Called with the `HaltingChoice` if parameters of halting are chosen.

    Returns
    -------
    Bundle
        The bundle in memory; `save_bundle` writes it. Its provenance records options and passes.

    Raises
    ------
    InputError
        If the checkpoint is missing or damaged, options conflict, or a graph cannot express the network (all
        reasons at once, each with its node).
    """
    if options is None:
        options = CompileOptions(**words)
    elif words:
        raise InputError("options are given twice", "give CompileOptions, or keywords")
    work = Compilation(Compiler(open_trained(model), note=note, progress=progress), options)
    bundle = work.bundle()
    if chosen is not None and work.choice is not None:
        chosen(work.choice)
    return bundle


def replay(bundle: Bundle) -> Bundle:
    """Compile a bundle again, from the checkpoint and the options that it records.

    Raises
    ------
    InputError
        As `compile`; or if the bundle records no checkpoint and no released weights.
    """
    model, options = recorded_compilation(bundle)
    return compile(model, **options)


def recorded_compilation(bundle: Bundle) -> tuple[Weights | str, dict[str, Any]]:
    """Return what a bundle was compiled from, and the fields of `CompileOptions` that it records.

    Raises
    ------
    InputError
        If the bundle records no checkpoint, bundle or released weights, which alone are opened again.
    """
    source = bundle.provenance.source
    if not source:
        raise InputError("the bundle was compiled from a model in memory", "compile that model again")
    if bundle.provenance.training is not None:
        what = f"the bundle was fine-tuned from {source}, which compiling does not do again"
        raise InputError(what, "train it again, or compile the bundle itself")
    if is_factory(source):
        what = f"the bundle was imported from {source}, whose code is not executed again"
        raise InputError(what, "import and compile it again")
    if is_nir(source):
        what = f"the bundle was imported from {source}, whose dt it does not record"
        raise InputError(what, "import and compile it again")
    if is_netx(source):
        what = f"the bundle was imported from {source}, whose T it does not record"
        raise InputError(what, "import and compile it again")
    if is_onnx(source):
        raise InputError(f"the bundle was imported from {source}", "import and compile it again")
    options: dict[str, Any] = dict(bundle.provenance.options)
    if (given := options.pop("set", None)) is not None:
        options["profile"] = load_profile(options["profile"], parse_settings(given.split(", ")))
    if (weights := WeightsOptions.of_words(options)) is not None:
        options = {name: options[name] for name in options if name not in weights.as_words()}
        return open_weights(source, weights), options
    if "input_encoding" not in options:
        options.pop("bits", None)  # the width of fine-tuning, which the checkpoint contains
    return source, options
