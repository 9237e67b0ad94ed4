"""Results in one line, as tables of notebooks, as data frames, and as charts."""

from __future__ import annotations

import builtins
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from support.check_cases import folded
from support.energy_runs import run as energy_run

import stas_neuro
from stas_neuro.activity import KINDS
from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.data import LabelledImages
from stas_neuro.display import HtmlTable, share_with_ends, si, with_ends
from stas_neuro.energy import Estimate, Interval
from stas_neuro.errors import InputError
from stas_neuro.trace import Trace

BASIS = "estimated from published figures and assumed figures, not measured"


class _Tables(HTMLParser):
    """Reads HTML, which must close what it opens, and keeps the texts of table cells by row."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(html: str) -> _Tables:
    parser = _Tables()
    parser.feed(html)
    assert not parser.open
    return parser


@pytest.fixture(scope="module")
def trace() -> Trace:
    graph = folded()
    images = np.random.default_rng(0).random((4, *graph.image_shape))
    predicted = stas_neuro.run(graph, images).predictions
    labels = predicted.copy()
    labels[0] = (labels[0] + 1) % len(graph.classes)
    ran: Trace = stas_neuro.run(graph, LabelledImages(images, labels, graph.classes))
    return ran


@pytest.fixture(scope="module")
def cost() -> Estimate:
    found: Estimate = stas_neuro.estimate(energy_run(), "loihi2")
    return found


def test_numbers_have_units_and_ends() -> None:
    assert si(1.23e-5, "J") == "12.3 uJ" and si(0, "J") == "0 J"
    assert with_ends(Interval(2e-6, 1e-6, 3e-6), "s") == "2 us (1 us to 3 us)" and with_ends(None, "s") == "-"
    assert share_with_ends(Interval(0.1, -0.2, 0.3)) == "+10.0% (-20.0% to +30.0%)"


def test_html_is_escaped_and_long_tables_are_cut() -> None:
    table = HtmlTable([("<b>", "&")] * 40, ("<i>", '"'), "<script>")
    html = "\n".join(table.lines())
    assert "<b>" not in html and "<script>" not in html and "<i>" not in html
    parsed = read(html)
    assert parsed.rows[0] == ["<i>", '"'] and parsed.rows[1] == ["<b>", "&"] and len(parsed.rows) == 31
    assert "and 10 more" in parsed.text


def test_every_result_is_one_line_and_a_small_table(trace: Trace, cost: Estimate) -> None:
    graph = folded()
    bundle = Bundle(graph, Provenance(source="runs/<mine>"), {})
    compared = stas_neuro.compare(energy_run(), {"<stage>": energy_run(halting=False)}, ["loihi2", "cmos45"])
    energy, latency = with_ends(cost.energy_j, "J"), with_ends(cost.latency_s, "s")
    shown: list[tuple[Any, str]] = [
        (trace, "<Trace 4 images, 3 classes, accuracy 75.0 %, token ratio"),
        (trace.activity, "<Activity 4 images, "),
        (cost, f"<Estimate loihi2: energy {energy}, latency {latency} of an image, 1 images; {BASIS}>"),
        (compared, f"<Comparison 2 profiles, relative to <stage>; {BASIS}>"),
        (graph, f"<Graph folded: {len(graph.nodes)} nodes, "),
        (bundle, "<Bundle of runs/<mine>: <Graph folded: "),
        (stas_neuro.load_profile("loihi2"), "<Profile loihi2: Intel Loihi 2"),
        (stas_neuro.check(graph, "loihi2"), "<Preflight passed: weights of 8 bits on 1 chips>"),
    ]
    for result, text in shown:
        assert repr(result).startswith(text) and "\n" not in repr(result)
        parsed = read(result._repr_html_())
        assert parsed.rows and len(result._repr_html_()) < 20_000
        assert "<mine>" not in result._repr_html_() and "<stage>" not in result._repr_html_()
    for result in (cost, compared):
        assert BASIS in repr(result) and f"All figures are {BASIS}." in read(result._repr_html_()).text
    rows = {row[0]: row[1:] for row in read(cost._repr_html_()).rows}
    assert cost.latency_s is not None
    assert rows["latency"] == [
        si(end, "s") for end in (cost.latency_s.value, cost.latency_s.low, cost.latency_s.high)
    ]
    saved = read(compared._repr_html_()).rows[1]
    assert saved[:2] == ["loihi2", "<stage>"] and saved[-1] == share_with_ends(compared.rows[0].energy_saving)


def test_accuracy_is_that_of_the_labels_of_the_run(trace: Trace) -> None:
    assert trace.accuracy == 0.75 and trace.labels is not None and trace.labels.shape == (4,)
    graph = folded()
    without = stas_neuro.run(graph, np.zeros((1, *graph.image_shape)))
    assert without.accuracy is None and without.labels is None
    assert "accuracy" not in repr(without) and "label" not in without.to_frame().columns


def test_data_frames_have_the_numbers(trace: Trace, cost: Estimate) -> None:
    frame = trace.to_frame()
    assert frame["correct"].tolist() == [False, True, True, True]
    assert frame["visits"].tolist() == trace.visits.sum(axis=(1, 2, 3)).tolist()
    events = trace.activity.to_frame()
    for kind in KINDS:
        assert events.loc[events["event"] == kind, "count"].sum() == trace.activity.counts[kind].sum()
    by_image = trace.activity.to_frame(by_image=True)
    second = by_image[by_image["image"] == 1]
    assert second["count"].sum() == sum(counts[1].sum() for counts in trace.activity.counts.values())
    totals = cost.to_frame().set_index("quantity")
    assert cost.energy_j is not None
    assert totals.loc["energy", ["value", "low", "high"]].tolist() == [
        cost.energy_j.value,
        cost.energy_j.low,
        cost.energy_j.high,
    ]
    parts = cost.to_frame("events")
    assert parts["energy_j"].tolist() == [event.energy_j.value for event in cost.events]
    assert parts["energy_j_high"].tolist() == [event.energy_j.high for event in cost.events]
    assert len(cost.to_frame("layers")) == len(cost.layers) and len(cost.to_frame("tokens")) == len(
        cost.tokens
    )
    with pytest.raises(InputError, match=r"no part 'layer'; did you mean layers\?"):
        cost.to_frame("layer")
    compared = stas_neuro.compare(energy_run(), {"other": energy_run(halting=False)}, ["loihi2", "cmos45"])
    saved = compared.to_frame()
    assert saved["profile"].tolist() == ["loihi2", "cmos45"]
    assert saved["dynamic_energy_saving"].tolist() == [
        None if row.dynamic_energy_saving is None else row.dynamic_energy_saving.value
        for row in compared.rows
    ]


def test_without_pandas_the_error_names_what_to_install(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def no_pandas(name: str, *rest: Any, **words: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    with pytest.raises(InputError, match=r"pandas cannot be used here.*pip install 'pandas"):
        trace.to_frame()


def test_results_draw_themselves(trace: Trace, cost: Estimate) -> None:
    compared = stas_neuro.compare(energy_run(), {"other": energy_run(halting=False)}, "loihi2")
    images = np.zeros((2, *folded().image_shape))
    for chart in (
        compared.plot(),
        cost.plot(),
        cost.plot(part="steps", run="mine"),
        trace.plot(),
        trace.plot(images=images),
    ):
        assert "vega-lite" in chart.to_dict()["$schema"]
    for call, message in (
        (lambda: cost.plot(part="step"), "did you mean steps?"),
        (lambda: compared.plot(part="steps"), "no option of plot 'part'"),
        (lambda: trace.plot(images=np.zeros((9, 1, 4, 4))), "9 images, and the trace has 4"),
    ):
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            call()
