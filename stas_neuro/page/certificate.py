"""Section on what was verified."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stas_neuro.files import parse_json
from stas_neuro.page.content import Cell, Section, number, table, text


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What is shown of a comparison (`stas_neuro.verifier.agreement.Agreement`)."""

    run: str
    dtype: str
    baseline: str
    promised: bool
    equal: bool
    spikes_compared: int
    spikes_differing: int
    visits_differing: int
    events_differing: int
    logit_delta: float | None
    top1_changes: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """The comparisons of one arithmetic."""

    runs: tuple[Compared, ...]


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images that were used."""

    source: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is shown of a certificate (`stas_neuro.verifier.certificate.Verification`)."""

    passed: bool
    images: int
    data: Images
    tool_version: str
    certificate_sha256: str
    parts: tuple[Part, ...]
    lowering: Compared | None
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def certificate_section(documents: Sequence[Mapping[str, Any]]) -> Section:
    """Show which executions agree with which, on how many images.

    Raises InputError where a document is no certificate; the message names the field.
    """
    section = Section("certificate", "Certificate")
    columns = (
        "run", "compared with", "must be equal", "equal", "spikes compared", "spikes that differ",
        "visits that differ", "event counts that differ", "largest difference of a logit",
        "images classified differently",
    )  # fmt: skip
    for place, document in enumerate(documents):
        content = json.dumps(document).encode()
        found = parse_json(Certificate, content, "the certificate", "give a file written by verify")
        verdict = "All requirements are met" if found.passed else "Requirements are NOT met"
        section.text.append(
            f"{verdict}, on {found.images} images of {found.data.source}; verified by version "
            f"{found.tool_version}, certificate SHA-256 {found.certificate_sha256}."
        )
        agreements = [each for part in found.parts for each in part.runs]
        agreements += [] if found.lowering is None else [found.lowering]
        caption = f"Executions that were compared, certificate {place + 1}"
        rows = map(_row, agreements)
        section.tables.append(table(f"certificate-table-{place}", caption, columns, rows))
        if found.left_out:
            section.lists.append(("Left out", [f"{name}: {why}" for name, why in found.left_out.items()]))
        if found.notes:
            section.lists.append(("Notes", list(found.notes)))
    return section


def _row(each: Compared) -> list[Cell]:
    delta = each.logit_delta
    return [
        text(f"{each.run}, {each.dtype}"),
        text(each.baseline),
        text("yes" if each.promised else "no"),
        text("yes" if each.equal else "no"),
        number(each.spikes_compared, "{:,}"),
        number(each.spikes_differing, "{:,}"),
        number(each.visits_differing, "{:,}"),
        number(each.events_differing, "{:,}"),
        text("not finite") if delta is None else number(delta, "{:.3g}"),
        number(each.top1_changes),
    ]
