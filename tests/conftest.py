"""What all tests share."""

import os

from hypothesis import settings

# A slow example on a busy machine is no failure, and a failure must come back.
settings.register_profile("stas-neuro", deadline=None, derandomize=True)
settings.load_profile("stas-neuro")

# Processes of xdist are told a terminal of 80 columns, which would cut the tables that tests read.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)
