"""Modules that a function in the user's file returns, and files of weights for them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.importers.base import ImportOptions, file_of, is_factory

NEURONS = "NEURONS"
"""Name of a dictionary in the file: its own classes of neurons, as the option `neurons`."""
WRAPPED = ("state_dict", "model")
"""Keys under which training scripts save weights, beside other state."""

_SAVE = "save model.state_dict() with torch.save"


def make_module(source: Any, options: ImportOptions) -> tuple[nn.Module, ImportOptions]:
    """Return a module with its weights; the neurons that the file names are added to the options.

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
    if options.weights is not None:
        _load(module, options.weights)
    return module, options


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


def _load(module: nn.Module, path: Path) -> None:
    """Load all weights by their names; no code is executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            held: Any = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} not found", "give a file of weights") from error
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read: {first}", _SAVE) from error
    for key in WRAPPED:
        held = held.get(key, held) if isinstance(held, dict) else held
    if not isinstance(held, dict) or not all(isinstance(each, Tensor) for each in held.values()):
        raise InputError(f"{path} does not contain a dict of tensors", _SAVE)
    weights = {name.removeprefix("module."): tensor for name, tensor in held.items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        what = f"{path} does not fit the module: {' '.join(str(error).split())}"
        raise InputError(what, "give weights of this module") from error
