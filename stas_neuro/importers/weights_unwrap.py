"""The state_dict in a file of weights: which of what the file holds is taken, and under what names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from stas_neuro.documents import BadDocument, shown
from stas_neuro.importers.weights_machine import Table
from stas_neuro.importers.weights_pickle import Attributes, Form
from stas_neuro.models.checkpoint import WRAPPERS

ENTRIES = ("state_dict", "model", "model_state_dict", "net", "network", "module")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Names under which training scripts save weights, and their exponential moving average (EMA)."""
_DEEPEST = 4
_HEADS = ("num_heads", "heads")


@dataclass(frozen=True)
class Taken:
    """The dict that is taken.

    `place` is where it is in the file, `beside` what else is there and is not read, `averages` those of these
    that are moving averages. `forms` and `keys` are by names without `removed`, what wrappers put into names
    and what all of them begin with.
    """

    place: tuple[str, ...]
    averaged: bool
    beside: tuple[str, ...]
    averages: tuple[str, ...]
    removed: tuple[str, ...]
    forms: Mapping[str, Form]
    keys: Mapping[str, str]


def take(content: Table, averaged: bool) -> Taken:
    """Find the state_dict, or with `averaged` the moving average of it.

    Where there is only one of the two, it is taken whatever was asked for.

    Raises
    ------
    BadDocument
        If there is none, there are several, or it holds what are no tensors, or two of one name.
    """
    place: list[str] = []
    beside: list[str] = []
    is_average = False
    table = content
    while found := _entries(table, averaged):
        if len(found) > 1:
            raise BadDocument(f"holds several networks ({', '.join(found)})")
        if len(place) == _DEEPEST:
            raise BadDocument(f"has dicts within each other, more than {_DEEPEST} levels")
        is_average |= found[0] in AVERAGED
        beside += [shown(str(key)) for key in table if key != found[0]]
        table = table[found[0]]
        place.append(found[0])
    names, removed = _renamed(table)
    return Taken(
        tuple(place),
        is_average,
        tuple(beside),
        tuple(name for name in beside if name in AVERAGED),
        removed,
        {name: table[key] for name, key in names.items()},
        names,
    )


def _entries(table: Table, averaged: bool) -> list[str]:
    """Give the keys of what may be the network in a table; none in a state_dict."""
    plain, average = (
        [name for name in names if isinstance(table.get(name), Table)] for names in (ENTRIES, AVERAGED)
    )
    return (average or plain) if averaged else (plain or average)


def _renamed(table: Table) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give keys by their names without wrappers and common start, and what was removed."""
    odd = [
        shown(str(key)) for key, value in table.items() if not (isinstance(key, str) and type(value) is Form)
    ]
    if odd or not table:
        what = f"{len(odd)} entries that are no tensors: {', '.join(odd[:5])}" if odd else "no tensors"
        raise BadDocument(f"holds {what}")
    removed: set[str] = set()
    names: dict[str, str] = {}
    for key in table:
        parts = key.split(".")
        removed.update(f"{part}." for part in parts if part in WRAPPERS)
        _put(names, unwrapped(key), key)
    start = os.path.commonprefix(list(names))  # noqa: RUF071 - it is cut at a dot
    prefix = start[: start.rfind(".") + 1]
    if prefix:
        removed.add(prefix)
    return {name.removeprefix(prefix): key for name, key in names.items()}, tuple(sorted(removed))


def unwrapped(key: str) -> str:
    """Return a name without the parts that torch's wrappers put into it."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _put(names: dict[str, str], name: str, key: str) -> None:
    if name in names:
        raise BadDocument(f"holds {shown(names[name])} and {shown(key)}, which are both {shown(name)}")
    names[name] = key


def heads_of_args(content: Table) -> int | None:
    """Give the number of heads that the arguments of a training script say, which some files hold."""
    args = content.get("args")
    values = args.values if isinstance(args, Attributes) else args
    found = [values.get(name) for name in _HEADS] if isinstance(values, dict) else []
    return next((value for value in found if type(value) is int), None)
