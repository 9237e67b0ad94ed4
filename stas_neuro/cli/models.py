"""Models that commands are given: by path, `file.py:function`, or the name of a shipped model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from stas_neuro.assets import shipped_model, shipped_models
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.bundle import Bundle


class _Model(click.Path):
    """A path, `file.py:function` or the name of a shipped model, whose directory the command gets."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        from stas_neuro.importers import find_model  # imported here: help texts do not need it

        return Path(find_model(Path(value)))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete paths; shipped models where no path begins so, as a shell cannot offer both."""
        folder, begun = os.path.split(incomplete)
        with suppress(OSError):
            if any(name.startswith(begun) for name in os.listdir(folder or ".")):
                return super().shell_complete(ctx, param, incomplete)
        names = [name for name in shipped_models() if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or super().shell_complete(ctx, param, incomplete)


MODEL = _Model(path_type=Path)


def rivals_option(text: str) -> Callable[[Any], Any]:
    """Make the option --rival LABEL=MODEL, which can be repeated; `labelled_models` reads it."""
    return click.option("--rival", "rivals", multiple=True, metavar="LABEL=MODEL", help=text)


def labelled_models(rivals: Sequence[str]) -> dict[str, Path]:
    """Read each LABEL=MODEL of --rival; a label, too, may contain "=", as T=1 does."""
    named: dict[str, str] = {}
    for text in rivals:
        label, separator, path = text.rpartition("=")
        if not separator or not label:
            raise InputError(f"--rival {text} has no label", "use LABEL=MODEL")
        if label in named:
            raise InputError(f"--rival {label} is given twice", "give each model a label of its own")
        named[label] = path
    return {label: MODEL.convert(path, None, None) for label, path in named.items()}


def open_bundle(path: Path) -> Bundle:
    """Read the bundle that a command is given; of a model that is not compiled, say how to."""
    from stas_neuro.bundle import load_bundle
    from stas_neuro.compiler import is_checkpoint

    if is_checkpoint(path) or is_shipped(path):
        what = "a checkpoint" if path.exists() else "a shipped model"
        raise InputError(
            f"{path} is {what}, not a bundle", f"compile it first: stas-export compile {path} -o BUNDLE"
        )
    return load_bundle(path)


def is_shipped(path: Path) -> bool:
    """Return whether a path that does not exist is the name of a shipped model."""
    return not path.exists() and shipped_model(str(path)) is not None
