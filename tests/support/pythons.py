"""Other versions of Python to test on, from uv or pyenv; one that cannot be had is a failure, not a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import metadata

import pytest

_SUPPORTED = "Programming Language :: Python :: "
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [
    version
    for classifier in metadata("stas-neuro").get_all("Classifier", [])
    if classifier.startswith(_SUPPORTED) and (version := classifier.removeprefix(_SUPPORTED)) != RUNNING
]
"""The versions that the package supports, without the one that runs the tests."""


def find_uv() -> str:
    """Return the program uv, which `make` and ``uv run`` name."""
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "uv is not on PATH: run the tests by `make test` or `uv run pytest`"
    return program


def interpreter(version: str) -> str:
    """Return the path of a Python of `version`, which uv downloads where it is missing."""
    uv = find_uv()
    # Without PYENV_VERSION, pyenv's commands for versions that are not selected fail.
    environment = os.environ | {"PYENV_VERSION": version}
    find = [uv, "python", "find", "--no-project", "--no-python-downloads", version]
    install = [uv, "python", "install", version]
    found = subprocess.run(find, env=environment, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(
                f"Python {version} is not on this machine, and uv cannot download it; "
                f"install it (uv, pyenv or the system's packages) and run again\n{done.stderr}",
                pytrace=False,
            )
        found = subprocess.run(find, env=environment, capture_output=True, text=True, check=True)
    return found.stdout.strip()
