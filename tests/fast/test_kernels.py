"""Compiled loops: where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stas_neuro.fast import kernels


def test_loops_that_cannot_be_kept_are_compiled_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def njit(*, cache: bool = False, **options: Any) -> Callable[[Any], Any]:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    def loop() -> None:
        return None

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels._kernel(loop) is loop
    assert asked == [True, False]
