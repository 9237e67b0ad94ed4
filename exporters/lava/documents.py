"""Checked files and JSON: `stas_neuro.documents`, of which an exported package has a copy in this place."""

from __future__ import annotations

from stas_neuro.documents import BadDocument, one_line, open_file, parse_json, reason, shown

__all__ = ["BadDocument", "one_line", "open_file", "parse_json", "reason", "shown"]
