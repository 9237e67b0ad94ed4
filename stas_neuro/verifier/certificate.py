"""The certificate: comparisons, requirements, whether they are met, and hashes of all inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import __version__
from stas_neuro.data import LabelledImages, blocks
from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.files import Output, json_object, read_bytes
from stas_neuro.verifier.agreement import TOLERANCE, Agreement
from stas_neuro.verifier.differences import Difference
from stas_neuro.verifier.headroom import Saturation

FORMAT = "stas-neuro certificate"
SCHEMA_VERSION = 1
SEAL = "certificate_sha256"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Files that the networks were made from; empty for a graph or a model in memory.

    Parameters
    ----------
    source : str
        The checkpoint.
    source_sha256, bundle_sha256 : mapping
        SHA-256 of the files of the checkpoint and of the bundle, by name.
    """

    source: str = ""
    source_sha256: Mapping[str, str]
    bundle_sha256: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DataHash:
    """The images that were used, with the SHA-256 of their bytes and of their labels, if any."""

    source: str
    shape: tuple[int, ...]
    dtype: str
    images_sha256: str
    labels_sha256: str | None

    @staticmethod
    def of(data: LabelledImages) -> DataHash:
        """Hash `data` in C order."""
        return DataHash(
            source=data.source,
            shape=data.images.shape,
            dtype=str(data.images.dtype),
            images_sha256=_sha256(blocks(data.images)),
            labels_sha256=None if data.labels is None else _sha256([data.labels]),
        )


@dataclass(frozen=True, kw_only=True)
class ArithmeticCheck:
    """All executions of one network (`arithmetic` is float or fixed), compared with a baseline."""

    arithmetic: str
    baseline: str
    agreements: tuple[Agreement, ...]
    structure: tuple[Difference, ...]
    """Differences between the network that was passed for Lava and the graph."""
    spikes_fired: Mapping[str, int]
    """Spikes per LIF layer in the baseline; layers that never fire would agree even with errors in them."""
    visits_skipped: int | None
    """Number of visits skipped for halted tokens in the baseline; None for a network without halting."""
    token_ratio: float
    accuracy: float | None
    """Accuracy of the baseline; None where the data have no labels."""

    @property
    def silent_layers(self) -> tuple[str, ...]:
        """LIF layers without a spike on these images."""
        return tuple(name for name, spikes in self.spikes_fired.items() if not spikes)

    @property
    def failures(self) -> tuple[Agreement, ...]:
        """Runs that were required to be equal and are not."""
        return tuple(agreement for agreement in self.agreements if agreement.promised and not agreement.equal)

    @property
    def tested(self) -> bool:
        """Whether there was a run that was required to be equal."""
        return any(agreement.promised for agreement in self.agreements)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return {
            "arithmetic": self.arithmetic,
            "baseline": self.baseline,
            "accuracy": self.accuracy,
            "token_ratio": self.token_ratio,
            "spikes_fired": sum(self.spikes_fired.values()),
            "silent_layers": list(self.silent_layers),
            "visits_skipped": self.visits_skipped,
            "structure": [asdict(difference) for difference in self.structure],
            "runs": [agreement.to_json() for agreement in self.agreements],
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Verification(Displayed):
    """The certificate: all executions of every network, and what was left out, with reasons."""

    data: DataHash
    subject: Subject
    parts: tuple[ArithmeticCheck, ...]
    lowering: Agreement | None
    """Integer reference compared with float reference; None unless both ran."""
    saturation: Saturation | None
    """Headroom of the integer program."""
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()
    """Limitations of the results."""

    @property
    def images(self) -> int:
        """Number of images compared."""
        return self.data.shape[0]

    def _headline(self) -> str:
        runs = sum(len(part.agreements) for part in self.parts)
        verdict = "passed" if self.passed else "FAILED"
        return f"{verdict}: {runs} runs compared on {self.images} images of {self.data.source}"

    def _tables(self) -> Iterable[HtmlTable]:
        rows = [
            (part.arithmetic, each.run, each.dtype, "equal" if each.equal else "differs", each.promised)
            for part in self.parts
            for each in part.agreements
        ]
        yield HtmlTable(rows, ("arithmetic", "run", "numbers", "result", "required"))
        if self.left_out:
            yield HtmlTable(list(self.left_out.items()), ("left out", "reason"))

    def part(self, arithmetic: str) -> ArithmeticCheck:
        """Return the part of one arithmetic; raises KeyError where it was not compared."""
        return {part.arithmetic: part for part in self.parts}[arithmetic]

    @property
    def passed(self) -> bool:
        """Whether all requirements are met, and there was at least one for each network."""
        return all(part.tested and not part.failures and not part.structure for part in self.parts)

    def require(self) -> None:
        """Raise CheckFailed unless `passed`, with the layer that differs or why nothing was compared."""
        problems = []
        for part in self.parts:
            if part.structure:
                more = f" and {len(part.structure) - 1} more" if len(part.structure) > 1 else ""
                problems.append(
                    f"Lava's {part.arithmetic} network differs from the graph: {part.structure[0]}{more}"
                )
            if part.failures:
                problems.append(f"over {self.images} images {part.failures[0]}")
        if problems:
            remedy = "do not rely on these results, and report the problem with the model and the image"
            raise CheckFailed(". ".join(problems), remedy)
        for part in self.parts:
            if not part.tested:
                reasons = " ".join(f"{name}: {reason}." for name, reason in self.left_out.items())
                raise CheckFailed(
                    f"nothing could be compared with {part.baseline}. {reasons}",
                    "install Lava"
                    if part.arithmetic == "fixed"
                    else "pass the checkpoint that the bundle was compiled from, or install Lava",
                )

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write the certificate to a JSON file; `force` replaces an earlier one, and nothing else.

        Raises
        ------
        InputError
            When something is there already, or the file cannot be written.
        """
        content = (json.dumps(self.to_json(), indent=1) + "\n").encode()
        certificate_output(Path(path), force=force).write(content)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, including the SHA-256 of all other fields."""
        return sealed(
            {
                "format": FORMAT,
                "schema_version": SCHEMA_VERSION,
                "tool_version": __version__,
                "passed": self.passed,
                "images": self.images,
                "data": asdict(self.data),
                **asdict(self.subject),
                "logit_tolerance": TOLERANCE,
                "parts": [part.to_json() for part in self.parts],
                "lowering": None if self.lowering is None else self.lowering.to_json(),
                "saturation": None if self.saturation is None else self.saturation.to_json(),
                "left_out": dict(self.left_out),
                "notes": list(self.notes),
            }
        )


def certificate_output(path: Path, *, force: bool) -> Output:
    """Return the place of a certificate, for `check_outputs`."""
    return Output(path=path, is_earlier=_is_certificate, otherwise="is not a certificate", force=force)


def _is_certificate(path: Path) -> bool:
    try:
        return bool(json_object(read_bytes(path), str(path), "").get("format") == FORMAT)
    except InputError:
        return False


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the SHA-256 of its canonical JSON (sorted keys, no spaces, ASCII) added."""
    content = {key: value for key, value in document.items() if key != SEAL}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return content | {SEAL: hashlib.sha256(canonical.encode()).hexdigest()}


def check_certificate(document: Mapping[str, Any]) -> None:
    """Check that a certificate, read from JSON, has not changed since it was written.

    This detects accidental changes only: anyone can compute the hash of a modified certificate.

    Raises
    ------
    InputError
        If it is not a certificate, or has a different version.
    CheckFailed
        If its hash does not match its content.
    """
    found = document.get("format"), document.get("schema_version")
    if found != (FORMAT, SCHEMA_VERSION):
        what = f"the document is {found[0]!r} version {found[1]}, not {FORMAT!r} version {SCHEMA_VERSION}"
        raise InputError(what, "use a file written by `verify -o` of this version")
    wanted = sealed(document)[SEAL]
    if document.get(SEAL) != wanted:
        what = f"{SEAL} is {document.get(SEAL)}, but the hash of the content is {wanted}"
        raise CheckFailed(what, "the certificate was changed: verify again")


def read_certificate(path: Path) -> dict[str, Any]:
    """Read the document of a certificate from its file.

    Raises
    ------
    InputError, CheckFailed
        As `check_certificate`, or when the file cannot be read.
    """
    document = json_object(read_bytes(path), str(path), "give a file written by verify")
    check_certificate(document)
    return document


def _sha256(arrays: Iterable[NDArray[Any]]) -> str:
    """Return the hash of the values of arrays, one after another."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
