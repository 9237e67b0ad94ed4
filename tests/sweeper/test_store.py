"""Rows on disk: each is there once, whatever a crash has left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.toy_sweeps import plan_of

from stas_neuro.errors import InputError
from stas_neuro.sweeper import store as module
from stas_neuro.sweeper.store import DONE, FAILED, UNKNOWN, Store
from stas_neuro.sweeper.work import Row

Open = Callable[[Path], Store]
PLAN = plan_of({"price": {"mode": list(range(5)), "log": [1, 2]}})


def rows(*cells: int, **values: Any) -> list[Row]:
    return [Row(cell, 0.5, None, {"price_x": cell * 2, **values}) for cell in cells]


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Store]]:
    """Open stores, which are closed at the end."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(Store(folder, PLAN))


def test_rows_are_there_after_a_crash_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 3)
    store = opened(tmp_path / "one")
    store.add(rows(0, 7))
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "one", before)
    store.add(rows(3))  # which moves all to a part
    assert not (tmp_path / "one" / "cells" / "journal.jsonl").read_bytes()
    # A crash between the new part and the emptied journal leaves the rows in both.
    shutil.copy(before / "cells" / "journal.jsonl", tmp_path / "one" / "cells")
    again = opened(tmp_path / "one")
    assert again.done == 3 and list(again.missing(range(10))) == [1, 2, 4, 5, 6, 8, 9]
    again.add(rows(1, 2, 4, 5, 6, 8, 9))
    table = pq.read_table(again.export())
    assert table["cell"].to_pylist() == list(range(10))
    assert table["price_x"].to_pylist() == [2 * cell for cell in range(10)]
    assert table["price.mode"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert table["price.log"].to_pylist() == [1, 2] * 5


@pytest.mark.parametrize("length", range(1, 40, 6))
def test_half_a_line_of_the_journal_is_no_row(tmp_path: Path, length: int, opened: Open) -> None:
    store = opened(tmp_path)
    store.add(rows(4))
    journal = tmp_path / "cells" / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:length])
    again = opened(tmp_path)
    assert again.done == 1 and again.state[4] == DONE
    again.add(rows(5))
    assert [json.loads(line)["cell"] for line in journal.read_text().splitlines()] == [4, 5]


def test_failed_rows_are_forgotten_and_others_kept(tmp_path: Path, opened: Open) -> None:
    store = opened(tmp_path)
    store.add([*rows(0, 1), Row(2, 0.0, "it broke", {})])
    assert (store.done, store.failed, store.first_error) == (3, 1, "it broke")
    again = opened(tmp_path)
    assert again.state[2] == FAILED and again.first_error == "it broke"
    again.forget_failed()
    assert again.state[2] == UNKNOWN and again.done == 2 and again.first_error is None
    assert opened(tmp_path).done == 2


def test_parts_with_other_columns_and_types_are_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 2)
    store = opened(tmp_path)
    store.add([Row(9, 0.0, None, {"a": 1, "b": 2, "c": True}), Row(1, 0.0, None, {"a": 2, "d": 3})])
    store.add([Row(2, 0.0, None, {"a": 0.5, "b": "two"}), Row(3, 0.0, "no", {})])
    store.add([Row(cell, 0.0, None, {}) for cell in (0, 4, 5, 6, 7, 8)])
    found = {row["cell"]: row for row in pq.read_table(store.export()).to_pylist()}
    assert (found[9]["a"], found[1]["a"], found[2]["a"]) == (1.0, 2.0, 0.5)
    assert (found[9]["b"], found[2]["b"], found[1]["b"]) == ("2", "two", None)
    assert (found[9]["c"], found[1]["d"], found[3]["error"]) == (True, 3, "no")
    assert sorted(found) == list(range(10))


def test_a_damaged_part_is_named(tmp_path: Path, opened: Open) -> None:
    opened(tmp_path)
    part = tmp_path / "cells" / "part-000000.parquet"
    part.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-000000\.parquet: .*; use --force"):
        opened(tmp_path)
