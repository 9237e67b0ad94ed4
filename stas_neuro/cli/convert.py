"""``stas-export convert``."""

from __future__ import annotations

from pathlib import Path

import click

from stas_neuro.api import preprocess
from stas_neuro.bundle import ARITHMETICS, Bundle, load_bundle
from stas_neuro.cli.common import PATH, emit_json, force_option, stas_command
from stas_neuro.data import data_path, load_data
from stas_neuro.energy import load_profile
from stas_neuro.energy.profile import profile_path
from stas_neuro.errors import InputError
from stas_neuro.exporters import sanafe
from stas_neuro.exporters.lava.package import package_output, write_package
from stas_neuro.files import check_outputs
from stas_neuro.validation import architecture_of


@stas_command(
    "stas-export convert digits.stas --to lava -o digits-lava",
    "python digits-lava/run.py images.npz",
    "stas-export convert events.stas --to sanafe --data events.npz --profile loihi1 -o events-sanafe",
)
@click.argument("bundle", type=PATH)
@click.option("--to", "target", type=click.Choice(["lava", "sanafe"]), required=True, help="The other tool.")
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
    help="The float network, or the integer program of a bundle compiled with --bits; float for lava, and "
    "fixed for sanafe, which takes no other.",
)
@click.option("--data", metavar="DATA", help="sanafe: events, the first of which are the input spikes.")
@click.option(
    "--profile", metavar="NAME|FILE", help="sanafe: the chip whose costs are written; loihi1 if not given."
)
@force_option
def command(
    bundle: Path,
    target: str,
    output: Path,
    arithmetic: str | None,
    data: str | None,
    profile: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write BUNDLE in the form of another tool.

    lava: a directory whose run.py runs the network on Lava with numpy and lava-nc alone, without stas-neuro.

    sanafe: a directory whose run.py runs the integer program, as it was placed on cores, on SANA-FE, which
    simulates chips. What SANA-FE cannot say (products of spikes, halting, biases) is refused node by node.
    """
    place = package_output if target == "lava" else sanafe.package_output
    check_outputs([place(output, force=force)], reads=[bundle, data_path(data), profile_path(profile)])
    loaded = load_bundle(bundle)
    if target == "lava":
        if data is not None or profile is not None:
            raise InputError("--data and --profile are of sanafe", "leave them out for lava")
        write_package(loaded.of(arithmetic or "float"), output, force=force)
    else:
        _write_sanafe(loaded, output, arithmetic or "fixed", data, profile or "loihi1", force)
    if as_json:
        files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
        emit_json({"target": target, "output": str(output), "files": files})
        return
    click.echo(f"written to {output}; its README.md tells how to run it")


def _write_sanafe(
    bundle: Bundle, output: Path, arithmetic: str, data: str | None, profile: str, force: bool
) -> None:
    graph = bundle.of(arithmetic)
    if reasons := sanafe.refusals(graph):
        raise sanafe.cannot_say(reasons)
    if bundle.mapping is None:
        raise InputError("the bundle is on no cores", "compile it with --placement")
    if data is None:
        raise InputError("SANA-FE needs the spikes of the input", "give events with --data")
    frames = preprocess(graph, load_data(data), limit=1)[0]
    costs = architecture_of(load_profile(profile))
    sanafe.write_package(graph, bundle.mapping, costs, frames, output, force=force)
