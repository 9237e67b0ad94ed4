"""``stas-export convert``."""

from __future__ import annotations

from pathlib import Path

import click

from stas_neuro.choices import ARITHMETICS
from stas_neuro.cli.common import PATH, emit_json, force_option, stas_command
from stas_neuro.cli.models import open_bundle
from stas_neuro.files import check_outputs


@stas_command(
    "stas-export convert digits.stas --to lava -o digits-lava",
    "python digits-lava/run.py images.npz",
)
@click.argument("bundle", type=PATH)
@click.option(
    "--to",
    "target",
    metavar="TARGET",
    required=True,
    help="The target format: lava, netx, nir, onnx, or one that another package adds.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="PATH",
    help="Directory or file to write.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETICS),
    default="float",
    show_default=True,
    help="Write the float network, or the integer program of a bundle compiled with --bits.",
)
@click.option(
    "--dt",
    type=float,
    metavar="SECONDS",
    help="nir: length of a model step, 1e-4 unless told otherwise; time constants are multiples of it.",
)
@force_option
def command(
    bundle: Path,
    target: str,
    output: Path,
    arithmetic: str,
    dt: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write BUNDLE in the format of another tool.

    lava: a directory whose run.py runs the network on Lava. It requires numpy and lava-nc, not stas-neuro.
    nir: a file of the neuromorphic intermediate representation, for networks without attention.
    onnx: a file that onnxruntime runs, with logits and spikes; compile reads it back.
    netx: a file of lava-dl, for integer programs (--arithmetic fixed) that are a chain of layers.
    """
    from stas_neuro.targets import convert, find_target

    check_outputs([find_target(target, dt).output(output, force=force)], reads=[bundle])
    convert(open_bundle(bundle), target, output, arithmetic=arithmetic, force=force, dt=dt)
    if as_json:
        inside = [path.relative_to(output) for path in output.rglob("*") if path.is_file()]
        files = sorted(map(str, inside)) if output.is_dir() else [output.name]
        emit_json({"target": target, "output": str(output), "files": files})
        return
    explained = "; its README.md explains how to run it" if (output / "README.md").is_file() else ""
    click.echo(f"written to {output}{explained}")
