"""``stas-export sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import (
    PATH,
    directory_option,
    emit_json,
    emit_table,
    if_interrupted,
    progress,
    stas_command,
)
from stas_neuro.errors import CheckFailed
from stas_neuro.files import Output, check_outputs

if TYPE_CHECKING:
    from stas_neuro.sweeper import Plan

LISTED = 10
"""Number of cells that --list shows."""


@stas_command(
    "stas-export sweep examples/sweeps/epsilon.toml -o runs/epsilon",
    "stas-export sweep examples/sweeps/epsilon.toml -o runs/epsilon --list",
    "stas-export sweep config.toml -o runs/many --scheduler tcp://10.0.0.1:8786",
)
@click.argument("config", metavar="CONFIG.toml", type=PATH)
@directory_option("Directory for results.parquet and the steps. An interrupted sweep continues there.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Compute on a Dask cluster whose workers share this file system, as tcp://10.0.0.1:8786.  [default: "
    "processes of this machine]",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes, with one thread each.  [default: one for each processor]",
)
@click.option("--retry", is_flag=True, help="Compute cells that failed again.")
@click.option(
    "--list", "only_list", is_flag=True, help="Check CONFIG, and show the cells without computing them."
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace the results of another sweep in DIR; steps that are the same are kept.",
)
def command(
    config: Path,
    output: Path,
    scheduler: str | None,
    jobs: int | None,
    retry: bool,
    only_list: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run every combination of the options in CONFIG, and collect the results in DIR/results.parquet.

    CONFIG has a table of options for each of the steps train, compile, run, measure and estimate; an option
    with a list of values is an axis. Steps that cells share are computed once. Whenever the sweep is
    interrupted, the same command continues it. Cells that fail are kept with their error.
    """
    from stas_neuro.cli.sweep_steps import KINDS, perform, pool_of
    from stas_neuro.sweeper import read_plan, run_plan
    from stas_neuro.sweeper.driver import SWEEP

    plan = read_plan(config, KINDS)
    if only_list:
        _show(plan, as_json)
        return
    written = Output.marked(output, SWEEP, force=True)
    check_outputs([written], reads=[config, *plan.inputs()])
    if_interrupted("the same command continues")
    with progress("sweep", at_once=True) as report:
        swept = run_plan(
            plan,
            output.resolve(),
            perform,
            pool_of(scheduler, jobs),
            retry=retry,
            force=force,
            report=lambda done, total: report(done, total, "cells"),
        )
    facts = {"cells": swept.cells, "computed": swept.computed, "failed": swept.failed}
    if as_json:
        emit_json({**facts, "error": swept.error, "results": str(output / swept.results.name)})
    else:
        before = swept.cells - swept.computed
        click.echo(
            f"{swept.cells} cells, {swept.computed} computed now, {before} before, {swept.failed} failed: "
            f"{output / swept.results.name}"
        )
    if swept.failed:
        what = f"{swept.failed} of {swept.cells} cells failed, one of them with: {swept.error}"
        raise CheckFailed(what, "the column error has all; --retry computes these cells again")


def _show(plan: Plan, as_json: bool) -> None:
    from stas_neuro.sweeper import first_cells

    cells = first_cells(plan, LISTED)
    axes = {each.name: list(each.values) for each in plan.columns}
    if as_json:
        emit_json({"cells": plan.count, "axes": axes, "first": cells})
        return
    click.echo(f"{plan.count} cells: {' x '.join(str(len(axis.values)) for axis in plan.axes) or 'no axis'}")
    for name, values in axes.items():
        click.echo(f"  {name}: {', '.join('-' if value is None else str(value) for value in values)}")
    if cells and axes:
        click.echo()
        rows = [
            [number, *("-" if each is None else each for each in cell.values())]
            for number, cell in enumerate(cells)
        ]
        emit_table(("cell", *axes), rows, f"The first {len(cells)} cells")
