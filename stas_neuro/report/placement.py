"""The utilisation of the cores of a placed network, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from stas_neuro.placement import Utilisation
from stas_neuro.report.word_table import WordTable


def utilisation_report(use: Utilisation, *, every_core: bool = False) -> RenderableType:
    """Tabulate mean and largest use of each resource, and unchecked limits; `every_core` lists all cores."""
    parts: list[RenderableType] = [Text(_head(use)), Text(), _worst(use), Text()]
    if every_core:
        parts += [_cores(use), Text()]
    if use.cores_unshared is not None:
        parts.append(Text(f"at least {use.cores_unshared} cores if positions did not share weights"))
    parts += [Text(f"not checked: {name} ({why})") for name, why in use.unchecked.items()]
    return Group(*parts)


def _head(use: Utilisation) -> str:
    chips = f"{use.chips} {'chip' if use.chips == 1 else 'chips'}"
    if broken := use.exceeded():
        return (
            f"does not fit {use.profile}, as placed on {len(use.cores)} cores of {chips}: {', '.join(broken)}"
        )
    cores = f"{len(use.cores)} cores of {use.chips * use.cores_per_chip}"
    cut = "" if use.groups is None else f", each block in {use.groups} groups"
    return f"on {use.profile}: {cores} on {chips}, {use.strategy}{cut}, {use.weight_bits}-bit weights"


def _worst(use: Utilisation) -> WordTable:
    table = WordTable("resource", "mean", "largest", "limit", "on core", "layers")
    for resource, used in use.used.items():
        core = use.worst(resource)
        site = use.cores[core]
        table.add_row(
            f"{resource} (bytes)" if resource == "synaptic memory" else resource,
            f"{used.mean():.0f}",
            str(used[core]),
            _of(use, resource, int(used[core])),
            f"{core} at chip {site.chip}, tile {site.x},{site.y}",
            _layers(use, core),
        )
    return table


def _cores(use: Utilisation) -> WordTable:
    headings = (resource.replace(" ", "\n") for resource in use.used)
    table = WordTable("core", "chip", "tile", *headings, "layers")
    for core, site in enumerate(use.cores):
        figures = (_beyond(use, resource, int(used[core])) for resource, used in use.used.items())
        table.add_row(str(core), str(site.chip), f"{site.x},{site.y}", *figures, _layers(use, core))
    return table


def _layers(use: Utilisation, core: int) -> str:
    """List the layers of a core, grouped by block, such as `blocks.0: all 7`."""
    whole = _by_scope(dict.fromkeys(layer for layers in use.layers for layer in layers))
    named = []
    for scope, names in _by_scope(dict.fromkeys(use.layers[core])).items():
        if scope and len(names) == len(whole[scope]) > 1:
            named.append(f"{scope}: all {len(names)}")
        elif scope and len(names) > 1:
            named.append(f"{scope}: {', '.join(names)}")
        else:
            named += [f"{scope}.{name}" if scope else name for name in names]
    return "; ".join(named)


def _by_scope(layers: Iterable[str]) -> dict[str, list[str]]:
    scopes: dict[str, list[str]] = {}
    for layer in layers:
        scope, _, name = layer.rpartition(".")
        scopes.setdefault(scope, []).append(name)
    return scopes


def _beyond(use: Utilisation, resource: str, used: int) -> str:
    limit = use.limits.get(resource)
    return str(used) if limit is None or used <= limit else f"{used} > {limit}"


def _of(use: Utilisation, resource: str, used: int) -> str:
    limit = use.limits.get(resource)
    return "not checked" if limit is None else f"{limit} ({100 * used / limit:.0f} %)"
