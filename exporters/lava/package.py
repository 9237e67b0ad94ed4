"""Write a network as a directory that runs on Lava by itself, with numpy and lava-nc alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import stas_neuro
from stas_neuro import __version__
from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.network import FIXED, NETWORK_FILE, Network
from stas_neuro.exporters.lava.rules import check_network
from stas_neuro.files import Output, check_outputs
from stas_neuro.ir import Graph

LIBRARY = "stas_lava"
"""The package's own copy of the modules that run a network."""
MODULES = (
    "assemble.py",
    "compat.py",
    "execute.py",
    "executor.py",
    "failure.py",
    "infrastructure.py",
    "lava_api.py",
    "lifeline.py",
    "network.py",
    "policies.py",
    "reading.py",
    "reports.py",
    "rules.py",
    "schedule.py",
    "standalone.py",
    "streams.py",
    "supervisor.py",
    "worker.py",
)
SHARED = ("arrays.py", "documents.py")
"""Modules of stas-neuro itself that these need; what is here by their names refers to them."""
RUN = '''"""Run this network on Lava: python run.py IMAGES.npz (--help has the options)."""

import sys
from pathlib import Path

from stas_lava.standalone import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
'''
README = """# A spiking network for Lava

Exported by stas-neuro {version}: {layers} Lava processes, {steps} model steps an image, classes {classes}.

    python run.py images.npz --out predictions.npz

`images.npz` holds `images`, {pixels}, of shape {shape}, and `labels` and `classes` if there are any:
without `classes` labels count those above from 0, with it they are matched by name.
{arithmetic}. run.py prints each prediction, the accuracy where there are labels, and the share of
visits that tokens used. `--runtime multiprocess` takes Lava's own runtime, an operating-system process for
each of the network's; the default steps the same process models in one.

Needs numpy and lava-nc 0.10.0. Python 3.10: `pip install lava-nc==0.10.0 "numpy<2"`. Lava declares no support
for Python 3.11 to 3.13 but runs there (`stas_lava/compat.py` mends what does not):

    pip install "numpy<2.4" scipy networkx asteval
    pip install --no-deps --ignore-requires-python lava-nc==0.10.0

| file | content |
|---|---|
| `network.json` | processes, ports and wires |
| `weights.npz` | arrays by "process/parameter" |
| `stas_lava/` | the processes and what runs them; part of stas-neuro, BSD-3-Clause |
"""


def write_package(graph: Graph, path: Path | str, force: bool = False) -> None:
    """Write the package of a graph: run.py, README.md, network.json, weights.npz and `LIBRARY`.

    The graph is folded, or quantised for a package that computes in integers. It appears at `path` whole or
    not at all; `force` replaces another such package there, and nothing else.

    Raises
    ------
    InputError
        The graph still has BatchNorm nodes or is larger than a package may be (`rules`), something is at
        `path` already, or it cannot be written.
    """
    output = package_output(Path(path).resolve(), force=force)
    check_outputs([output])
    network = build_network(graph)
    try:
        check_network(network)
    except BadDocument as error:
        raise InputError(f"no package can hold the network: {error}", "export a smaller one") from error
    with output.filled() as fresh:
        _write(network, fresh)


def package_output(path: Path, *, force: bool) -> Output:
    """Give the place of a package, for `check_outputs`."""
    return Output.marked(path, NETWORK_FILE, force=force)


def _write(network: Network, directory: Path) -> None:
    library = directory / LIBRARY
    source = Path(__file__).resolve().parent
    (library / "processes").mkdir(parents=True)
    for module in (*MODULES, *(f"processes/{path.name}" for path in (source / "processes").glob("*.py"))):
        shutil.copyfile(source / module, library / module)
    for module in SHARED:
        shutil.copyfile(Path(stas_neuro.__file__).parent / module, library / module)
    (library / "__init__.py").write_text('"""Runs a network on Lava; see run.py."""\n', encoding="utf-8")
    (directory / "run.py").write_text(RUN, encoding="utf-8")
    fixed = network.arithmetic == FIXED
    readme = README.format(
        pixels="uint8" if fixed else "uint8 or float in 0..1",
        arithmetic=(
            "The network computes in integers, from these pixels on"
            if fixed
            else "run.py normalises them, the network computes in floating point"
        ),
        version=__version__,
        layers=len(network.layers),
        steps=network.time_steps,
        classes=", ".join(network.classes),
        shape=f"(n, {', '.join(map(str, network.image_shape))})",
    )
    (directory / "README.md").write_text(readme, encoding="utf-8")
    network.save(directory)
