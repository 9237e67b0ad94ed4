"""Write a network as a directory that runs on Lava by itself, with numpy and lava-nc alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import stas_neuro
from stas_neuro import __version__
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.runnable import check_size, check_stage
from stas_neuro.exporters.lava.saved import NETWORK_FILE, save_network
from stas_neuro.files import Output, check_outputs
from stas_neuro.ir import Graph, Stage

LIBRARY = "stas_neuro"
"""The package's own copy of the modules that run a network, by their own names."""
MODULES = (
    "analysis/*.py",
    "arrays.py",
    "choices.py",
    "data/images.py",
    "data/labelling.py",
    "data/naming.py",
    "data/numpy_files.py",
    "data/pixels.py",
    "data/stored.py",
    "display.py",
    "documents.py",
    "errors.py",
    "graph_document.py",
    "labels.py",
    "limits.py",
    "pickling.py",
    "scopes.py",
    "exporters/__init__.py",
    "exporters/lava/__init__.py",
    "exporters/lava/assemble.py",
    "exporters/lava/compat.py",
    "exporters/lava/execute.py",
    "exporters/lava/executor.py",
    "exporters/lava/failure.py",
    "exporters/lava/infrastructure.py",
    "exporters/lava/jobs.py",
    "exporters/lava/lava_api.py",
    "exporters/lava/lifeline.py",
    "exporters/lava/policies.py",
    "exporters/lava/processes/*.py",
    "exporters/lava/reports.py",
    "exporters/lava/runnable.py",
    "exporters/lava/saved.py",
    "exporters/lava/schedule.py",
    "exporters/lava/standalone.py",
    "exporters/lava/streams.py",
    "exporters/lava/supervisor.py",
    "exporters/lava/worker.py",
    "ir/**/*.py",
)
"""What of stas-neuro is copied, as patterns: it needs numpy and Lava only."""
PACKAGES = {"": "Runs a network on Lava; see run.py.", "data": "Reads images in files of numpy."}
"""Folders whose own ``__init__`` imports more than is copied, and what theirs says instead."""
RUN = '''"""Run this network on Lava: python run.py IMAGES.npz (--help has the options)."""

import sys
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
sys.path.insert(0, str(DIRECTORY))  # before an installed stas-neuro, however this is started

from stas_neuro.exporters.lava.standalone import main

if __name__ == "__main__":
    sys.exit(main(DIRECTORY))
'''
README = """# A spiking network for Lava

Exported by stas-neuro {version}: {nodes} Lava processes, {steps} model steps an image, classes {classes}.

    python run.py images.npz --out predictions.npz

`images.npz` holds `images`, {pixels}, of shape {shape}, and `labels` and `classes` if there are any:
without `classes` labels count those above from 0, with it they are matched by name.
{arithmetic}. run.py prints each prediction, the accuracy where there are labels, and the share of
visits that tokens used. `--runtime multiprocess` takes Lava's own runtime, an operating-system process for
each of the network's; the default steps the same process models in one.

Needs numpy and lava-nc 0.10.0. Python 3.10: `pip install lava-nc==0.10.0 "numpy<2"`. Lava declares no support
for Python 3.11 to 3.13 but runs there (`stas_neuro/exporters/lava/compat.py` mends what does not):

    pip install "numpy<2.4" scipy networkx asteval
    pip install --no-deps --ignore-requires-python lava-nc==0.10.0

| file | content |
|---|---|
| `network.json` | the graph: nodes, each a process, and edges |
| `weights.npz` | tensors by "node/parameter" |
| `stas_neuro/` | the processes and what runs them; part of stas-neuro, BSD-3-Clause |
"""


def write_package(graph: Graph, path: Path | str, force: bool = False) -> None:
    """Write the package of a graph: run.py, README.md, network.json, weights.npz and `LIBRARY`.

    The graph is folded, or quantised for a package that computes in integers. It appears at `path` whole or
    not at all; `force` replaces another such package there, and nothing else.

    Raises
    ------
    InputError
        The graph still has BatchNorm nodes or is larger than a package may be (`runnable`), something is at
        `path` already, or it cannot be written.
    """
    output = package_output(Path(path).resolve(), force=force)
    check_outputs([output])
    check_stage(graph)
    try:
        check_size(graph)
    except InputError as error:
        raise InputError(f"no package can hold the network: {error}", "export a smaller one") from error
    with output.filled() as fresh:
        _write(graph, fresh)


def package_output(path: Path, *, force: bool) -> Output:
    """Give the place of a package, for `check_outputs`."""
    return Output.marked(path, NETWORK_FILE, force=force)


def _write(graph: Graph, directory: Path) -> None:
    source, library = Path(stas_neuro.__file__).parent, directory / LIBRARY
    for module in sorted(path for pattern in MODULES for path in source.glob(pattern)):
        copy = library / module.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)
    for package, text in PACKAGES.items():
        (library / package / "__init__.py").write_text(f'"""{text}"""\n', encoding="utf-8")
    (directory / "run.py").write_text(RUN, encoding="utf-8")
    fixed = graph.stage == Stage.QUANTISED
    readme = README.format(
        pixels="uint8" if fixed else "uint8 or float in 0..1",
        arithmetic=(
            "The network computes in integers, from these pixels on"
            if fixed
            else "run.py normalises them, the network computes in floating point"
        ),
        version=__version__,
        nodes=len(graph.nodes),
        steps=graph.time_steps,
        classes=", ".join(graph.classes),
        shape=f"(n, {', '.join(map(str, graph.image_shape))})",
    )
    (directory / "README.md").write_text(readme, encoding="utf-8")
    save_network(graph, directory)
