"""Registry of targets, the formats of `convert`. Other packages add one by an entry point of `GROUP`.

In its ``pyproject.toml``::

    [project.entry-points."stas_neuro.targets"]
    mine = "my_package:MyTarget"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stas_neuro.bundle import Bundle
from stas_neuro.errors import InputError
from stas_neuro.files import Output
from stas_neuro.ir import Problem
from stas_neuro.plugins import Registry

GROUP = "stas_neuro.targets"


class Target(Protocol):
    """Writes a network in the format of another tool."""

    summary: str
    """Description of the format in one line of help."""

    def output(self, path: Path, *, force: bool) -> Output:
        """Return the output to write, and what it may replace."""

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        """Return a problem for each node that the other tool cannot express; empty if there are none."""

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        """Write a network without `refusals`."""


TARGETS: Registry[Target] = Registry("target", GROUP, {"lava": "stas_neuro.targets:LavaPackage"})


class LavaPackage:
    """A directory whose run.py runs the network on Lava; it needs only numpy and lava-nc."""

    summary = "a directory whose run.py runs the network on Lava; it needs only numpy and lava-nc"

    def output(self, path: Path, *, force: bool) -> Output:
        """Return the directory."""
        from stas_neuro.exporters.lava.package import package_output

        return package_output(path, force=force)

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        """Return no problems: Lava supports every bundle."""
        return ()

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        """Write the package."""
        from stas_neuro.exporters.lava.package import write_package

        write_package(bundle.of(arithmetic), path, force=force)


class CannotExpress(InputError):
    """A network that another tool cannot express; `problems` has every reason."""

    problems: tuple[Problem, ...]

    def __init__(self, target: str, *problems: Problem) -> None:
        super().__init__(
            f"{target} cannot express the network: " + " | ".join(map(str, problems)),
            "change the network as stated, or convert it to another target",
        )
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what.partition(" cannot express")[0], *self.problems)


def convert(
    bundle: Bundle, target: str, path: Path, *, arithmetic: str = "float", force: bool = False
) -> None:
    """Write a bundle in the format of another tool.

    Parameters
    ----------
    bundle : Bundle
    target : str
        A name of `TARGETS`.
    path : Path
    arithmetic : "float" or "fixed"
        Network of the bundle to write.
    force : bool
        Replace an earlier output of this target, but no other file.

    Raises
    ------
    CannotExpress
        When the other tool cannot express some nodes. The error has every node, and the remedy.
    InputError
        When there is no such target or no such network, or `path` exists.
    """
    writer = TARGETS.get(target)
    bundle.of(arithmetic)  # raises the same error for all targets
    if problems := writer.refusals(bundle, arithmetic):
        raise CannotExpress(target, *problems)
    writer.write(bundle, arithmetic, path, force=force)
