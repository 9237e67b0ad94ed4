"""Lower a model for each chip asked for and tell every problem at once, instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import Bundle
from stas_neuro.checker.capabilities import (
    graded_spikes,
    neuron_programs,
    processor,
    soft_reset,
    spike_products,
)
from stas_neuro.checker.capacity import PLACED, capacity
from stas_neuro.checker.findings import Deployment
from stas_neuro.checker.integers import registers, states
from stas_neuro.checker.silent_changes import lost_layers, stock_processes
from stas_neuro.chips import Arithmetic, Finding, Profile, load_profiles
from stas_neuro.compiler import Compilation, CompileOptions, Compiler, Opened, attempt, open_network
from stas_neuro.display import Displayed, HtmlTable
from stas_neuro.errors import CheckFailed
from stas_neuro.ir import Graph, Problem
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.passes import Quantise
from stas_neuro.placement import DEFAULT_BITS

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

_RULES = (spike_products, soft_reset, neuron_programs, graded_spikes, processor)
_OF_INTEGERS = (registers, states, stock_processes, lost_layers)
"""Rules for a quantised graph only."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a chip makes of a network.

    Parameters
    ----------
    profile, title : str
        The chip.
    fits : bool or None
        Whether nothing of severity error was found; None where the profile has no cores to hold it against.
    findings : tuple of Finding
        Errors first.
    unchecked : dict of str to str
        Limits that nobody published, by their entry, with the profile's reason.
    """

    profile: str
    title: str
    fits: bool | None
    findings: tuple[Finding, ...]
    unchecked: dict[str, str]

    def count(self, severity: str) -> int:
        """Count findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a bundle was placed: the profile, and how many of its cores and chips that takes."""

    profile: str
    cores: int
    chips: int

    @staticmethod
    def of(mapping: CoreMapping) -> Placed:
        """Count those of a mapping."""
        return Placed(profile=mapping.profile, cores=len(mapping.cores), chips=mapping.chips)


@dataclass(frozen=True, kw_only=True, repr=False)
class Preflight(Displayed):
    """Verdicts of several chips; `packing` is what figures of cores and memory assume.

    `placed` is of a bundle on cores, None where what is checked is on none.
    """

    weight_bits: int
    packing: str
    placed: Placed | None
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no chip found an error."""
        return all(verdict.fits is not False for verdict in self.verdicts)

    def _headline(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return f"{verdict}: weights of {self.weight_bits} bits on {len(self.verdicts)} chips"

    def _tables(self) -> Iterable[HtmlTable]:
        words = {True: "can run it", False: "cannot run it", None: "has no cores for placement"}
        rows = [
            (each.profile, words[each.fits], each.count("error"), each.count("warning"))
            for each in self.verdicts
        ]
        yield HtmlTable(rows, ("chip", "verdict", "errors", "warnings"))
        found = [
            (each.profile, each.severity, each.resource, each.layer or "whole network", each.used, each.limit)
            for verdict in self.verdicts
            for each in verdict.findings
        ]
        yield HtmlTable(found, ("chip", "severity", "finding", "layer", "used", "limit"))

    def require(self) -> None:
        """Raise CheckFailed naming the chips that cannot run the network."""
        if refusing := [verdict.profile for verdict in self.verdicts if verdict.fits is False]:
            raise CheckFailed(f"{', '.join(refusing)} cannot run the network", "fix the errors above")

    def to_json(self) -> dict[str, Any]:
        """Give plain dicts and lists for `json.dumps`."""
        return {"passed": self.passed} | asdict(self)


def check(
    network: StasModel | Graph | Bundle | str | Path,
    profiles: Profile | str | Path | Sequence[Profile | str | Path] | None = None,
    *,
    bits: int | None = None,
) -> Preflight:
    """Check whether chips can run a network.

    Parameters
    ----------
    network : StasModel, Graph, Bundle, str or Path
        A model or its checkpoint directory, a graph, or a bundle. It is quantised as each chip computes; what
        is quantised already (a graph, a bundle, a checkpoint fine-tuned to integers) is judged as it is.
    profiles : Profile, str, Path or sequence of these, optional
        Chips, or their names or paths, or one of these; all of the catalogue if not given.
    bits : int, optional
        Quantise to weights of so many bits, 2 to 9, instead of those chosen before; 8 where none were.

    Raises
    ------
    InputError
        When a file is missing or damaged, or a profile lacks an entry that is needed.
    """
    if bits is not None:
        Quantise(bits=bits)  # refuses what no core holds
    chips = load_profiles(profiles)
    opened = open_network(network)
    held = opened.bits if bits is None else None
    mapping = opened.mapping if bits is None else None  # other weights are placed otherwise
    asked = DEFAULT_BITS if held is None and bits is None else bits
    compiler = Compiler(opened)
    verdicts = []
    for chip in chips:
        options = CompileOptions(bits=asked, profile=chip, placement="token-major")
        verdicts.append(_verdict(Compilation(compiler, options), chip, mapping))
    return Preflight(
        weight_bits=_weight_bits(opened, asked),
        packing=PLACED,
        placed=None if mapping is None else Placed.of(mapping),
        verdicts=tuple(verdicts),
    )


def _weight_bits(opened: Opened, asked: int | None) -> int:
    bits = opened.bits if asked is None else asked
    assert bits is not None
    return bits


def _verdict(compilation: Compilation, profile: Profile, mapping: CoreMapping | None) -> Verdict:
    if profile.arithmetic is None:
        return Verdict(profile=profile.name, title=profile.title, fits=None, findings=(), unchecked={})
    findings = sorted(
        _findings(compilation, profile, profile.arithmetic, mapping),
        key=lambda finding: ("error", "warning", "info").index(finding.severity),
    )
    return Verdict(
        profile=profile.name,
        title=profile.title,
        fits=all(finding.severity != "error" for finding in findings),
        findings=tuple(findings),
        unchecked={
            name: reason
            for name, reason in profile.unavailable.items()
            if name.startswith("limits.") and (profile.graded_spikes or name != "limits.graded_spike_bits")
        },
    )


def _findings(
    compilation: Compilation, profile: Profile, arithmetic: Arithmetic, given: CoreMapping | None
) -> Iterator[Finding]:
    """Do the steps of a compilation, and find what each cannot do and what the rules say of what it made.

    `given` is where a bundle was placed, on this chip or another.
    """
    folded = None
    if compilation.opened.network is not None:
        folded, problems = attempt(compilation.fold)
        yield from _told(problems, profile, "operation")
        if folded is None:
            return
    quantised, problems = attempt(compilation.quantise)
    yield from _told(problems, profile, "integers")
    graph = quantised or folded
    assert graph is not None
    bits = _weight_bits(compilation.opened, compilation.options.bits)
    deployment = Deployment(graph, profile, bits, None if quantised is None else folded)

    def place() -> CoreMapping:
        mapping = given if given and given.profile == profile.name else compilation.place(graph)
        assert mapping is not None  # a placement is asked for
        return mapping

    for rule in _RULES:
        yield from rule(deployment)
    yield from capacity(deployment, place)
    if deployment.quantised:
        for rule in _OF_INTEGERS:
            yield from rule(deployment)
    elif bits > arithmetic.weight_bits:
        remedy = "use fewer weight bits (--bits)"
        yield deployment.error("", "weight bits", bits, arithmetic.weight_bits, remedy)


def _told(problems: Sequence[Problem], profile: Profile, resource: str) -> Iterator[Finding]:
    """Make findings of what lowering or quantising could not do."""
    limit = {"operation": "a graph of spikes", "integers": "the integers of a core"}[resource]
    for problem in problems:
        yield Finding(
            profile=profile.name,
            layer=problem.where,
            resource=resource,
            used=problem.what,
            limit=limit,
            severity="error",
            remedy=problem.remedy,
        )
