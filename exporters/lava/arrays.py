"""Checked arrays: `stas_neuro.arrays`, of which an exported package has a copy in this place."""

from __future__ import annotations

from stas_neuro.arrays import read_npz

__all__ = ["read_npz"]
