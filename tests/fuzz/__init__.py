"""Mutated files for every reader: errors are the project's own, time and memory bounded, nothing written.

`python -m fuzz --help`, with `tests` on PYTHONPATH, runs a campaign; `tests/test_fuzz.py` a short one.
"""
