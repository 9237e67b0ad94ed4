"""``stas-export convert``."""

from __future__ import annotations

from pathlib import Path

import click

from stas_neuro.choices import ARITHMETICS
from stas_neuro.cli.common import PATH, emit_json, force_option, stas_command
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
    help="The target format: lava, or one that another package adds.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="DIR",
    help="Directory to write.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETICS),
    default="float",
    show_default=True,
    help="Write the float network, or the integer program of a bundle compiled with --bits.",
)
@force_option
def command(
    bundle: Path,
    target: str,
    output: Path,
    arithmetic: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write BUNDLE in the format of another tool.

    lava: a directory whose run.py runs the network on Lava. It requires numpy and lava-nc, not stas-neuro.
    """
    from stas_neuro.bundle import load_bundle
    from stas_neuro.targets import TARGETS, convert

    check_outputs([TARGETS.get(target).output(output, force=force)], reads=[bundle])
    convert(load_bundle(bundle), target, output, arithmetic=arithmetic, force=force)
    if as_json:
        files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
        emit_json({"target": target, "output": str(output), "files": files})
        return
    click.echo(f"written to {output}; its README.md explains how to run it")
