"""Lower a model for each chip asked for and tell every problem at once, instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import api
from stas_neuro.bundle import Bundle, load_bundle
from stas_neuro.checker.capabilities import graded_spikes, neuron_programs, processor, spike_products
from stas_neuro.checker.capacity import PLACED, capacity
from stas_neuro.checker.findings import Deployment
from stas_neuro.checker.integers import registers, states
from stas_neuro.checker.silent_changes import lost_layers, stock_processes
from stas_neuro.chips import Arithmetic, Finding, Profile, list_profiles, load_profile
from stas_neuro.compiler.integers import load_scales
from stas_neuro.errors import CheckFailed, InputError, StasError
from stas_neuro.ir import Graph, Problem, Stage
from stas_neuro.mapping import Mapping as CoreMapping
from stas_neuro.passes import WIDEST_STATE, FoldBatchNorm, Quantise, run_passes

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

DEFAULT_BITS = 8
_RULES = (spike_products, neuron_programs, graded_spikes, processor, capacity)
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


@dataclass(frozen=True, kw_only=True)
class Preflight:
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

    def require(self) -> None:
        """Raise CheckFailed naming the chips that cannot run the network."""
        if refusing := [verdict.profile for verdict in self.verdicts if verdict.fits is False]:
            raise CheckFailed(f"{', '.join(refusing)} cannot run the network", "fix the errors above")

    def to_json(self) -> dict[str, Any]:
        """Give plain dicts and lists for `json.dumps`."""
        return {"passed": self.passed} | asdict(self)


def check(
    network: StasModel | Graph | Bundle | str | Path,
    profiles: Sequence[Profile | str] | None = None,
    *,
    bits: int | None = None,
) -> Preflight:
    """Check whether chips can run a network.

    Parameters
    ----------
    network : StasModel, Graph, Bundle, str or Path
        A model or its checkpoint directory, a graph, or a bundle. It is quantised as each chip computes; what
        is quantised already (a graph, a bundle, a checkpoint fine-tuned to integers) is judged as it is.
    profiles : sequence of Profile or str, optional
        Chips, or their names or paths; all of the catalogue if not given.
    bits : int, optional
        Quantise to weights of so many bits, 2 to 9, instead of those chosen before; 8 where none were.

    Raises
    ------
    InputError
        When a file is missing or damaged, or a profile lacks an entry that is needed.
    """
    chips = [_profile(chip) for chip in (list_profiles() if profiles is None else profiles)]
    candidate = _candidate(network, bits)
    return Preflight(
        weight_bits=candidate.bits,
        packing=PLACED,
        placed=candidate.placed,
        verdicts=tuple(_verdict(candidate, profile) for profile in chips),
    )


@dataclass(frozen=True)
class _Candidate:
    """What is to be checked: a graph unless lowering failed, and why it did.

    `chosen` is how a fine-tuned model has to be quantised, whatever the chip; `folded` the float network that
    a quantised graph of a bundle was made of.
    """

    graph: Graph | None
    bits: int
    folded: Graph | None = None
    problems: tuple[Problem, ...] = ()
    chosen: Quantise | None = None
    mapping: CoreMapping | None = None

    @property
    def placed(self) -> Placed | None:
        """Where it was placed, if it was."""
        if self.mapping is None:
            return None
        cores, chips = len(self.mapping.cores), self.mapping.chips
        return Placed(profile=self.mapping.profile, cores=cores, chips=chips)


def _profile(chip: Profile | str) -> Profile:
    return load_profile(chip) if isinstance(chip, str) else chip


def _candidate(network: StasModel | Graph | Bundle | str | Path, bits: int | None) -> _Candidate:
    if bits is not None:
        Quantise(bits=bits)  # refuses what no core holds
    if isinstance(network, str | Path) and not (Path(network) / api.CHECKPOINT_FILES[0]).is_file():
        network = load_bundle(network)
    mapping, folded = None, None
    if isinstance(network, Bundle):
        mapping = network.mapping if bits is None else None  # other weights are placed otherwise
        folded = network.graph
        network = network.quantised if network.quantised is not None and bits is None else network.graph
    if isinstance(network, Graph) and network.stage == Stage.QUANTISED:
        if bits is not None:
            raise InputError(
                f"bits {bits}: the graph is quantised already", "give the folded graph, or no bits"
            )
        return _Candidate(network, _bits_of(network), folded, mapping=mapping)
    chosen = load_scales(Path(network)) if isinstance(network, str | Path) and bits is None else None
    bits = chosen.bits if chosen else bits or DEFAULT_BITS
    if not isinstance(network, Graph):
        network = api.load_model(network)
    try:
        graph = network if isinstance(network, Graph) else api.lower(network)
        if graph.stage == Stage.TRACED:
            graph = run_passes(graph, [FoldBatchNorm()])
    except StasError as error:
        return _Candidate(None, bits, problems=_problems(error))
    return _Candidate(graph, bits, chosen=chosen, mapping=mapping)


def _bits_of(graph: Graph) -> int:
    return max((int(bits) for node in graph.nodes if (bits := getattr(node, "weight_bits", 0))), default=0)


def _problems(error: StasError) -> tuple[Problem, ...]:
    """Give each problem that an error tells of, or the error itself as one."""
    cause: BaseException | None = error
    while cause is not None:
        if found := getattr(cause, "problems", ()):
            return tuple(found)
        cause = cause.__cause__
    return (Problem("", error.what, error.remedy),)


def _verdict(candidate: _Candidate, profile: Profile) -> Verdict:
    arithmetic = profile.arithmetic
    if arithmetic is None:
        return Verdict(profile=profile.name, title=profile.title, fits=None, findings=(), unchecked={})
    findings = sorted(
        _findings(candidate, profile, arithmetic),
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


def _findings(candidate: _Candidate, profile: Profile, arithmetic: Arithmetic) -> Iterator[Finding]:
    yield from _told(candidate.problems, profile, "operation")
    graph, folded = candidate.graph, candidate.folded
    if graph is None:
        return
    if graph.stage != Stage.QUANTISED:
        quantise = candidate.chosen or Quantise(
            bits=candidate.bits,
            exponents=arithmetic.exponents,
            state_bits=min(arithmetic.state_bits, WIDEST_STATE),
        )
        try:
            graph, folded = quantise(graph), graph
        except InputError as error:
            yield from _told(_problems(error), profile, "integers")
    mapping = candidate.mapping if candidate.mapping and candidate.mapping.profile == profile.name else None
    deployment = Deployment(graph, profile, candidate.bits, folded, mapping)
    for rule in (*_RULES, *(_OF_INTEGERS if deployment.quantised else ())):
        yield from rule(deployment)
    if not deployment.quantised and candidate.bits > arithmetic.weight_bits:
        remedy = "use fewer weight bits (--bits)"
        yield deployment.error("", "weight bits", candidate.bits, arithmetic.weight_bits, remedy)


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
