"""Registry of targets, the formats of `convert`. Other packages add one by an entry point of `GROUP`.

In its ``pyproject.toml``::

    [project.entry-points."stas_neuro.targets"]
    mine = "my_package:MyTarget"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Timed(Target, Protocol):
    """A target whose format describes time in seconds."""

    def with_dt(self, dt: float) -> Target:
        """Return the target for a model step of `dt` seconds; raises InputError where it is out of range."""


TARGETS: Registry[Target] = Registry(
    "target",
    GROUP,
    {
        "lava": "stas_neuro.targets:LavaPackage",
        "nir": "stas_neuro.targets:NirFile",
        "netx": "stas_neuro.targets:NetxFile",
        "onnx": "stas_neuro.targets:OnnxFile",
    },
)


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


class NirFile:
    """A file of the neuromorphic intermediate representation.

    Parameters
    ----------
    dt : float, optional
        Seconds of a model step; None is `stas_neuro.exporters.nir.write.DT`.
    """

    summary = "a file of the neuromorphic intermediate representation (NIR); networks without attention"

    def __init__(self, dt: float | None = None) -> None:
        from stas_neuro.exporters.nir.write import DT, check_dt

        self.dt = DT if dt is None else dt
        check_dt(self.dt)

    def with_dt(self, dt: float) -> NirFile:
        """Return the target with another time step."""
        return NirFile(dt)

    def output(self, path: Path, *, force: bool) -> Output:
        """Return the file."""
        from stas_neuro.exporters.nir.write import nir_output

        return nir_output(path, force=force)

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        """Return a problem for each node that NIR has no words for."""
        from stas_neuro.exporters.nir.write import refusals

        return refusals(bundle.of(arithmetic))

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        """Write the file."""
        from stas_neuro.exporters.nir.write import write_nir

        write_nir(bundle.of(arithmetic), path, dt=self.dt, force=force)


class NetxFile:
    """A file of lava-dl's netx."""

    summary = "a netx file of lava-dl (.net); integer programs that are a chain of layers"

    def output(self, path: Path, *, force: bool) -> Output:
        """Return the file."""
        from stas_neuro.exporters.netx.write import netx_output

        return netx_output(path, force=force)

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        """Return a problem for each node that netx has no words for."""
        from stas_neuro.exporters.netx.write import refusals

        return refusals(bundle.of(arithmetic))

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        """Write the file."""
        from stas_neuro.exporters.netx.write import write_netx

        write_netx(bundle.of(arithmetic), path, force=force)


class OnnxFile:
    """An ONNX file of functions of our own: float64, or the integers of a quantised network."""

    summary = "an ONNX file that onnxruntime runs; it gives logits and spikes"

    def output(self, path: Path, *, force: bool) -> Output:
        """Return the file."""
        from stas_neuro.exporters.onnx.write import onnx_output

        return onnx_output(path, force=force)

    def refusals(self, bundle: Bundle, arithmetic: str) -> Sequence[Problem]:
        """Return a problem for each reason why the network cannot be one file."""
        from stas_neuro.exporters.onnx.refusals import refusals

        return refusals(bundle.of(arithmetic))

    def write(self, bundle: Bundle, arithmetic: str, path: Path, *, force: bool) -> None:
        """Write the file."""
        from stas_neuro.exporters.onnx.write import write_onnx

        write_onnx(bundle.of(arithmetic), path, force=force)


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


def find_target(name: str, dt: float | None = None) -> Target:
    """Return a target, for a time step if one is given; raises InputError where there is no such target.

    Also where it has no use for a time step, or the step is out of range.
    """
    target = TARGETS.get(name)
    if dt is None:
        return target
    if not isinstance(target, Timed):
        raise InputError(f"{name} has no use for dt", "leave out --dt, which is for formats such as nir")
    return target.with_dt(dt)


def convert(
    bundle: Bundle,
    target: str,
    path: Path,
    *,
    arithmetic: str = "float",
    force: bool = False,
    dt: float | None = None,
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
    dt : float, optional
        Seconds of a model step, for a target that describes time (nir).

    Raises
    ------
    CannotExpress
        When the other tool cannot express some nodes. The error has every node, and the remedy.
    InputError
        When there is no such target or no such network, or `path` exists.
    """
    writer = find_target(target, dt)
    bundle.of(arithmetic)  # raises the same error for all targets
    if problems := writer.refusals(bundle, arithmetic):
        raise CannotExpress(target, *problems)
    writer.write(bundle, arithmetic, path, force=force)
