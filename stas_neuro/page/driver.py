"""Making a page: price the runs, fill the sections, and write one HTML file that needs no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import __version__
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile, list_profiles, load_profile
from stas_neuro.choices import DEFAULT_PROFILE
from stas_neuro.data import LabelledImages
from stas_neuro.energy import Deployment, Estimate
from stas_neuro.energy.deployment import DEFAULT
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import Output
from stas_neuro.page.breakdown import breakdown_section, cores_section
from stas_neuro.page.certificate import certificate_section
from stas_neuro.page.content import Section
from stas_neuro.page.costs import chips_section, runs_section, savings_section
from stas_neuro.page.evidence import assumptions_section, constants_section, frontier_section
from stas_neuro.page.halting import halting_section
from stas_neuro.page.headline import Headline, headline
from stas_neuro.page.runs import Prices, Progress, Run, price_runs
from stas_neuro.report.charts import check_installed
from stas_neuro.report.frontier_file import Frontier, frontier_of
from stas_neuro.report.refused import Refused
from stas_neuro.trace import Trace

if TYPE_CHECKING:
    from stas_neuro.optimiser import Optimised
    from stas_neuro.verifier import Verification

IMAGES, MOST_IMAGES = 8, 32
"""Number of images that maps are drawn of by default, and at most."""
_MARK = '<meta name="generator" content="stas-neuro'
_SEARCHED = 4096
_FOLDER = "stas_neuro.page.templates"


@dataclass(frozen=True)
class Report:
    """A page.

    Parameters
    ----------
    html : str
        The page, complete in itself.
    profile : str
        The chip of the headline and of the breakdown.
    prices : Prices
        What every run costs on every chip, and what halting saves.
    sections : tuple of Section
    """

    html: str
    profile: str
    prices: Prices
    sections: tuple[Section, ...]

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write the page to a file; `force` replaces an earlier page, and nothing else.

        Raises InputError when something else is there, or the file cannot be written.
        """
        page_output(Path(path), force=force).write(self.html.encode())

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows in short, as plain dicts and lists for `json.dumps`."""
        costs = self.prices.costs
        return {
            "profile": self.profile,
            "runs": list(costs),
            "compared": self.prices.comparison is not None,
            "refused": {
                label: {cost.profile: cost.reason for cost in each if isinstance(cost, Refused)}
                for label, each in costs.items()
            },
            "sections": [section.name for section in self.sections],
            "figures": [figure.name for section in self.sections for figure in section.figures],
            "tables": [table.name for section in self.sections for table in section.tables],
            "not_shown": [why for section in self.sections for why in section.missing],
            "unchecked": list(self.prices.unchecked),
        }


def page_output(path: Path, *, force: bool) -> Output:
    """Return the output of a page, for `check_outputs`."""

    def is_ours(found: Path) -> bool:
        return found.is_file() and _MARK.encode() in found.read_bytes()[:_SEARCHED]

    return Output(path=path, is_earlier=is_ours, otherwise="is not a page of stas-neuro", force=force)


def make_report(  # noqa: PLR0913
    runs: Mapping[str, Trace | Activity] | Sequence[Run],
    *,
    profile: Profile | str | None = None,
    profiles: Sequence[Profile | str] | None = None,
    deployment: Deployment = DEFAULT,
    data: LabelledImages | None = None,
    images: Sequence[int] | None = None,
    frontiers: Sequence[Optimised | Frontier] = (),
    certificates: Sequence[Verification | Mapping[str, Any]] = (),
    progress: Progress | None = None,
) -> Report:
    """Make a page on what runs cost, with everything behind the prices.

    Parameters
    ----------
    runs : mapping of label to Trace or Activity, or sequence of Run
        Runs of the same images. The first is what the page is about; those without halting are what it is
        compared with; others stand beside it.
    profile : Profile or str, optional
        The chip of the headline and the breakdown. Default: the one that the first run was placed for, or
        else the cheapest with a total energy. It takes the place of one with the same name in `profiles`.
    profiles : sequence of Profile or str, optional
        Chips to price on. Default: all of the catalogue.
    deployment : Deployment
        How the first run is deployed.
    data : LabelledImages, optional
        The images of the runs, to draw maps over.
    images : sequence of int, optional
        Which of them, at most `MOST_IMAGES`. Default: the first `IMAGES`.
    frontiers : sequence of Optimised or Frontier
        Results of searches.
    certificates : sequence of Verification or mapping
        Certificates, or their documents.
    progress : callable, optional
        Called with the numbers of chips on which the runs are priced, and of all.

    Raises
    ------
    InputError
        When the runs cannot be compared or priced, two different profiles have one name, an image is not
        theirs, or Altair is not installed.
    """
    check_installed()
    given = _runs(runs)
    chips = [load_profile(each) if isinstance(each, str) else each for each in profiles or list_profiles()]
    of_name = {each.name: each for each in chips}
    if other := next((each for each in chips if of_name[each.name] != each), None):
        remedy = f"give each a name of its own, as dataclasses.replace(profile, name='my_{other.name}')"
        raise InputError(f"two different profiles are called '{other.name}'", remedy)
    wanted = of_name.get(profile) or load_profile(profile) if isinstance(profile, str) else profile
    if wanted is not None:
        of_name[wanted.name] = wanted
    prices = price_runs(given, list(of_name.values()), deployment, progress)
    first = given[0]
    cost = _main(first, prices, None if wanted is None else wanted.name)
    shown = first.activity.numbers[:IMAGES].tolist() if images is None else list(images)
    if len(shown) > MOST_IMAGES:
        raise InputError(f"maps of {len(shown)} images", f"choose at most {MOST_IMAGES}")
    detailed = [
        (run, each, deployment if run is first else deployment.without_halting())
        for run in given
        for each in prices.costs[run.label]
        if isinstance(each, Estimate)
        and each.profile == cost.profile
        and (run is first or not run.saves_work)
    ][:2]  # the run itself, and one without halting beside it
    documents = [each if isinstance(each, Mapping) else each.to_json() for each in certificates]
    sections = tuple(
        section
        for section in (
            runs_section(given),
            chips_section(prices),
            None if prices.comparison is None else savings_section(first.label, prices.comparison),
            breakdown_section(first.label, cost),
            cores_section(detailed, of_name[cost.profile]),
            halting_section(given, data, shown),
            frontier_section([frontier_of(each) for each in frontiers]) if frontiers else None,
            certificate_section(documents) if documents else None,
            constants_section(
                prices.estimates, [of_name[each.profile] for each in prices.costs[first.label]]
            ),
            assumptions_section(first.label, cost),
        )
        if section is not None
    )
    top = headline(first, cost, prices.comparison)
    return Report(_html(top, sections, prices), cost.profile, prices, sections)


def _runs(runs: Mapping[str, Trace | Activity] | Sequence[Run]) -> list[Run]:
    if not isinstance(runs, Mapping):
        return list(runs)
    return [
        Run(label=label, activity=run.activity, predictions=run.predictions)
        if isinstance(run, Trace)
        else Run(label=label, activity=run)
        for label, run in runs.items()
    ]


def _main(run: Run, prices: Prices, wanted: str | None) -> Estimate:
    """Return the price of the first run on the chip that the page is about."""
    costs = {cost.profile: cost for cost in prices.costs[run.label]}
    for name in filter(None, (wanted, run.activity.origin.chip, DEFAULT_PROFILE)):
        cost = costs.get(name)
        if isinstance(cost, Estimate):
            return cost
        if name == wanted:
            assert isinstance(cost, Refused)
            raise InputError(f"{run.label} has no price on {name}: {cost.reason}", "choose another --profile")
    priced = [cost for cost in costs.values() if isinstance(cost, Estimate)]
    if not priced:
        reasons = " ".join(
            f"{cost.profile}: {cost.reason}." for cost in costs.values() if isinstance(cost, Refused)
        )
        raise InputError(f"no profile could price {run.label}. {reasons[:-1]}", "choose other --profiles")
    return priced[0]


def _html(top: Headline, sections: Sequence[Section], prices: Prices) -> str:
    with needs("report"):
        import jinja2
        import vl_convert

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    figures = {figure.name: figure.specification for section in sections for figure in section.figures}
    for specification in figures.values():
        specification["config"] |= {"background": None}  # the page has colours of its own
    return environment.get_template("report.html").render(
        top=top,
        sections=sections,
        unchecked=prices.unchecked,
        version=__version__,
        style=_template("report.css"),
        script=_template("report.js"),
        library=_in_script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")),
        charts=json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )


def _template(name: str) -> str:
    return (files(_FOLDER) / name).read_text(encoding="utf-8")


def _in_script(code: str) -> str:
    """Return JavaScript without the texts that end, or comment out, the element it stands in.

    They can only be in strings of a program, where the backslash changes nothing.
    """
    return re.sub("<(?=/script|!--)", r"\\x3c", code, flags=re.IGNORECASE)
