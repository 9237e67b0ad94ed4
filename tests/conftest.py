"""What all tests share."""

import os

import pytest
from hypothesis import settings

# A slow example on a busy machine is no failure, and a failure must come back.
settings.register_profile("all", deadline=None, derandomize=True)
settings.register_profile("quick", settings.get_profile("all"), max_examples=40)

# Processes of xdist are told a terminal of 80 columns, which would cut the tables that tests read.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer random examples, where a test does not say how many, unless slow tests run too."""
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "all")
