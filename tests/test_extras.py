from __future__ import annotations

import gc

import pytest

from stas_neuro.errors import InputError
from stas_neuro.extras import needs


@pytest.mark.parametrize("enabled", [True, False])
def test_unused_objects_are_not_searched_during_imports_and_then_as_before(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with needs("torch"):
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(InputError, match="torch cannot be used here"), needs("torch"):
            raise ImportError("none")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
