"""Which model a text names: a file or directory, `file.py:function`, or a shipped model."""

from __future__ import annotations

from pathlib import Path

from stas_neuro.assets import shipped_model, shipped_models
from stas_neuro.errors import unknown
from stas_neuro.importers.base import is_factory


def find_model(path: str | Path, *names: str) -> str | Path:
    """Return a path or `file.py:function` as it is; of the name of a shipped model its directory.

    A file or directory of that name comes first.

    Parameters
    ----------
    path : str or Path
    *names : str
        Other names that are returned as they are, such as those of presets.

    Raises
    ------
    InputError
        If it is none of these. The message suggests a similar name.
    """
    if path in names or is_factory(path) or Path(path).exists():
        return path
    if (shipped := shipped_model(str(path))) is not None:
        return shipped
    known = (*names, *shipped_models())
    raise unknown("model or file", str(path), known, "the path of a checkpoint, a bundle or a model")
