"""Mutated files of every reader, a few hundred each; `make fuzz` has many more of the same."""

from __future__ import annotations

import pytest
from fuzz.campaign import Failure, run
from fuzz.target import find, names


@pytest.fixture(scope="module")
def failures() -> dict[str, list[Failure]]:
    return run([(name, 0, find(name).quick) for name in names()])


@pytest.mark.parametrize("name", names())
def test_mutated_files_are_read_or_refused(name: str, failures: dict[str, list[Failure]]) -> None:
    told = [
        f"{failure.what}\n{failure.mutations}\nfuzz {name} --only {failure.index}"
        for failure in failures[name]
    ]
    assert not told, "\n\n".join(told)
