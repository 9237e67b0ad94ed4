"""Lava imports and runs through compat; each case in its own process, for an import happens once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stas_neuro.exporters.lava import compat


def run_python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run `code` in a fresh interpreter with warnings as errors, and give what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 imports Lava as it is")
def test_mend_recovers_an_import_that_fails_without_it() -> None:
    out = run_python(
        """
        try:
            import lava.magma.core.process.process
        except ValueError as error:
            print(error)
        from stas_neuro.exporters.lava import compat
        from lava.magma.compiler.var_model import AxonEncoder, ByteEncoder
        assert AxonEncoder().hi == ByteEncoder(0, 0, 0)
        """
    )
    assert "mutable default" in out


def test_a_stock_network_runs() -> None:
    # Neuron 0 of the source fires at every step, neuron 1 never; Dense delivers a step later: 3 times in 4.
    out = run_python(
        """
        from stas_neuro.exporters.lava import compat
        import numpy as np
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi1SimCfg
        from lava.proc.dense.process import Dense
        from lava.proc.lif.process import LIF

        source = LIF(shape=(2,), du=1.0, dv=1.0, bias_mant=np.array([2.0, 0.0]), vth=1.0)
        dense = Dense(weights=np.array([[0.5, 4.0], [0.25, 4.0]]))
        target = LIF(shape=(2,), du=1.0, dv=0.0, vth=10.0)
        source.s_out.connect(dense.s_in)
        dense.a_out.connect(target.a_in)
        target.run(condition=RunSteps(num_steps=4), run_cfg=Loihi1SimCfg(select_tag="floating_pt"))
        print(target.v.get().tolist())
        target.stop()
        """
    )
    assert out == "[1.5, 0.75]"


def test_mend_is_idempotent_and_leaves_the_standard_library_alone() -> None:
    run_python(
        """
        import dataclasses, multiprocessing, sys
        before = dataclasses.dataclass, multiprocessing.set_start_method
        from stas_neuro.exporters.lava import compat
        first = sys.modules["lava.magma.compiler.var_model"]
        compat.mend()
        assert sys.modules["lava.magma.compiler.var_model"] is first
        assert before == (dataclasses.dataclass, multiprocessing.set_start_method)
        holders = [n for n, m in sys.modules.items() if any(v is compat._dataclass for v in vars(m).values())]
        assert set(holders) <= {compat.__name__, "lava.magma.compiler.var_model"}, holders
        """
    )


@pytest.mark.parametrize(("method", "after"), [("unset", "fork"), ("fork", "fork"), ("spawn", "spawn")])
def test_a_start_method_set_before_is_kept(method: str, after: str) -> None:
    out = run_python(
        """
        import multiprocessing, sys
        if sys.argv[1] != "unset":
            multiprocessing.set_start_method(sys.argv[1])
        from stas_neuro.exporters.lava import compat
        import lava.magma.runtime.runtime
        print(multiprocessing.get_start_method())
        """,
        method,
    )
    assert out == after


def test_compat_travels_without_stas_neuro(tmp_path: Path) -> None:
    shutil.copy(compat.__file__, tmp_path / "mend_lava.py")
    run_python(
        """
        import sys
        import mend_lava
        import lava.magma.core.process.process
        assert not any(name.partition(".")[0] == "stas_neuro" for name in sys.modules)
        """,
        cwd=tmp_path,
    )


def test_without_lava_the_error_names_it() -> None:
    out = run_python(
        """
        import sys
        sys.modules["lava"] = None
        try:
            from stas_neuro.exporters.lava import compat
        except ImportError as error:
            print(error)
        """
    )
    assert out.startswith("lava-nc 0.10.0 cannot be imported: ")


def test_every_import_of_lava_is_mended_and_nothing_else_needs_it() -> None:
    run_python(
        """
        import importlib, pkgutil, sys
        from stas_neuro.exporters import lava as ours
        sys.modules["stas_neuro.exporters.lava.compat"] = None
        needs_it = set()
        for module in pkgutil.walk_packages(ours.__path__, ours.__name__ + ".", onerror=lambda name: None):
            try:
                importlib.import_module(module.name)
            except ImportError:
                needs_it.add(module.name.removeprefix(ours.__name__ + "."))
        assert not [name for name in sys.modules if name.partition(".")[0] == "lava"]
        assert {"lava_api", "worker", "executor", "processes"} <= needs_it
        assert not needs_it & {"package", "saved", "run", "execute", "supervisor", "standalone"}
        """
    )


@pytest.mark.parametrize("version", ["1.26.4", "2.0.0", "2.3.5"])
def test_numpy_below_the_limit_is_taken(version: str) -> None:
    compat.check_numpy(version)


@pytest.mark.parametrize("version", ["2.4.0", "2.4.0rc1", "2.10.1", "3.0.0.dev0"])
def test_numpy_from_the_limit_on_is_refused(version: str) -> None:
    with pytest.raises(ImportError, match=r"numpy .* hang, the limit is < 2\.4; install"):
        compat.check_numpy(version)
