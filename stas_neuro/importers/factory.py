"""Modules that a function in the user's file returns, and files of weights for them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from stas_neuro.errors import InputError
from stas_neuro.importers.base import ImportOptions, file_of, is_factory
from stas_neuro.importers.module_weights import load_weights
from stas_neuro.importers.weights import FileReport

NEURONS = "NEURONS"
"""Name of a dictionary in the file: its own classes of neurons, as the option `neurons`."""


def make_module(source: Any, options: ImportOptions) -> tuple[nn.Module, ImportOptions, FileReport | None]:
    """Return a module, what was taken from its file of weights, and the options with the neurons of its file.

    Raises
    ------
    InputError
        If the file, the function or the weights cannot be used.
    """
    if not is_factory(source):
        module: nn.Module = source
    else:
        module, neurons = _run(source)
        options = replace(options, neurons={**neurons, **options.neurons})
    if options.ema and options.weights is None:
        raise InputError("ema is given, and no weights", "give the file of weights, or leave ema out")
    report = None if options.weights is None else load_weights(module, Path(options.weights), options.ema)
    return module, options, report


def _run(source: str | Path) -> tuple[nn.Module, dict[type, Any]]:
    """Run the user's file and call the function."""
    path = file_of(source)
    name = str(source).rpartition(":")[2]
    if not path.is_file():
        raise InputError(f"{path} not found", "give file.py:function")
    spec = importlib.util.spec_from_file_location(f"_imported_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # for imports of files beside it
    sys.modules[spec.name] = code
    try:
        spec.loader.exec_module(code)
        function = getattr(code, name, None)
        if not callable(function):
            raise InputError(f"{path} has no function {name}", "name a function without arguments")
        module = function()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source} fails: {type(error).__name__}: {error}", "correct the file") from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(module, nn.Module):
        what = f"{source} returns a {type(module).__name__}"
        raise InputError(what, "return a torch.nn.Module")
    return module.eval(), dict(getattr(code, NEURONS, {}))
