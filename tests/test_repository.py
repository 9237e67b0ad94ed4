"""Decision records, changelog and CONTRIBUTING.md have their form, and name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.paths import ROOT

RECORDS = sorted((ROOT / "docs" / "adr").glob("0*.md"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_record_has_title_status_and_date_and_is_in_the_index(record: Path) -> None:
    number = record.stem[:4]
    head = re.match(
        rf"# {number}: (.+)\n\n- Status: (proposed|accepted|rejected|superseded)\b.*\n"
        r"- Date: (\d{4}-\d\d-\d\d)\b.*\n\n",
        record.read_text(),
    )
    assert head, "begin with the lines that docs/adr/README.md shows"
    title, status, date = head.groups()
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert f"| [{number}: {title}]({record.name}) | {status} | {date} |" in index


def test_the_changelog_begins_with_what_is_unreleased_and_has_the_usual_sections() -> None:
    headings = re.findall(r"^(##+) (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    versions = [name for level, name in headings if level == "##"]
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name) for name in versions[1:])
    usual = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {name for level, name in headings if level == "###"} <= usual


def test_contributing_names_files_and_targets_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    quoted = re.findall(r"`([^`\n]+)`", text)
    paths = [
        name
        for name in quoted
        if re.fullmatch(r"(stas_neuro|exporters|hw_profiles|tests|docs)/[\w./*]*", name)
    ]
    assert len(paths) > 30
    assert not [name for name in paths if not any(ROOT.glob(name.rstrip("/")))]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_contributing_lists_every_table_that_a_new_operation_has_to_be_in() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("### An operation\n")[2].partition("\n### ")[0]
    sources = (path for folder in ("stas_neuro", "exporters") for path in (ROOT / folder).rglob("*.py"))
    tables = [path.relative_to(ROOT).as_posix() for path in sources if "per_op(\n" in path.read_text()]
    real = [
        name for name in tables if name != "stas_neuro/ir/ops/__init__.py" and "stas_neuro/exp" not in name
    ]
    assert len(real) > 5
    assert not [name for name in real if f"`{name}`" not in section]
