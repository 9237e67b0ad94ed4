"""The page in a browser: it draws, sorts, prints and can be read by everyone, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, sync_playwright
from support.cli_support import fine
from support.pages import CHIPS, Material, make_material

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
if CHROMIUM is None and os.environ.get("CI") != "true":  # there it is an error, below
    pytest.skip("there is no chromium (Debian: apt-get install chromium)", allow_module_level=True)
PATIENCE_MS = 120_000
"""A busy machine takes its time to start a browser."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def written(material: Material) -> dict[str, Any]:
    """The document of the command that wrote the page."""
    page = material.data.parent / "report.html"
    done: dict[str, Any] = fine("report", *material.arguments, "-o", page, "--json").json
    return done


@pytest.fixture(scope="module")
def opened(written: dict[str, Any]) -> Iterator[tuple[Page, list[str]]]:
    """The page with all charts drawn, and what the browser complained about or asked the network for."""
    complaints: list[str] = []

    def block(route: Route) -> None:
        if route.request.url == address:
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    address = Path(written["page"]).as_uri()
    with sync_playwright() as playwright:
        assert CHROMIUM is not None, "there is no chromium; .ci/run installs it"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light", viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/*", block)
        page.goto(address)
        page.wait_for_function(
            "document.querySelectorAll('[data-chart]:not(.drawn)').length === 0", timeout=PATIENCE_MS
        )
        yield page, complaints
        browser.close()


def values(page: Page, table: str) -> list[list[str | None]]:
    """Return the values of a table, row by row, of cells without a value None."""
    found: list[list[str | None]] = page.eval_on_selector_all(
        f"#{table} tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.dataset.value ?? null))",
    )
    return found


def numbers(cells: list[str | None]) -> list[float | None]:
    return [None if cell is None else float(cell) for cell in cells]


def ends(interval: dict[str, float] | None) -> list[float | None]:
    return [None] * 3 if interval is None else [interval["value"], interval["low"], interval["high"]]


def test_all_charts_are_drawn_without_errors_or_requests(
    opened: tuple[Page, list[str]], written: dict[str, Any]
) -> None:
    page, complaints = opened
    assert complaints == []
    drawn = page.eval_on_selector_all("figure", "all => all.map(each => each.id)")
    assert drawn == written["figures"]
    expected = (
        "energy", "latency", "savings", "layers", "steps", "cores", "work", "placement", "exits", "maps",
        "frontier",
    )  # fmt: skip
    assert all(any(name.startswith(f"{kind}-chart") for name in drawn) for kind in expected)
    marks = page.eval_on_selector_all(
        "figure",
        "all => all.map(each => each.querySelectorAll('svg .role-mark path, svg .role-mark image').length)",
    )
    assert min(marks) > 0
    assert page.get_by_text("Estimated, not measured.").is_visible()
    assert Path(written["page"]).stat().st_size < 6_000_000


def test_the_numbers_are_those_of_estimate_and_compare(
    opened: tuple[Page, list[str]], material: Material
) -> None:
    page, _ = opened
    rows = {(row[0], row[1]): row for row in values(page, "chips-table")}
    assert len(rows) == 2 * len(CHIPS.split(","))
    against = ("--baseline", f"stage 1={material.without}", "--profiles", CHIPS, "--json")
    compared = fine("compare", material.halting, *against).json
    for cost in compared["estimates"]:
        row = rows[cost["profile"], "halting"]
        assert numbers(row[2:5]) == ends(cost["energy_j"])
        assert numbers(row[9:12]) == ends(cost["latency_s"])
        if cost["structural_range"] and cost["energy_j"]:
            assert numbers(row[6:8]) == ends(cost["structural_range"]["energy_j"])[1:]
    assert "was not placed for loihi1" in compared["missing"]["loihi1"]
    assert str(rows["loihi1", "halting"][5]).endswith(compared["missing"]["loihi1"])
    saved = {row[0]: row for row in values(page, "savings-table")}
    for each in compared["comparison"]["rows"]:
        assert numbers(saved[each["profile"]][2:5]) == ends(each["energy_saving"])
        assert numbers(saved[each["profile"]][5:8]) == ends(each["dynamic_energy_saving"])
    whole = fine("estimate", material.halting, "--profile", "loihi2", "--json").json
    for table, field, column in (
        ("layers-table", "layers", 4),
        ("steps-table", "steps", 2),
        ("cores-table", "cores_breakdown", 4),
    ):
        shown = [numbers(row[column : column + 3]) for row in values(page, table)]
        assert shown == [ends(part["dynamic_energy_j"]) for part in whole[field]]
    facts = page.eval_on_selector_all(".facts data", "all => all.map(each => Number(each.value))")
    assert facts[0] == whole["energy_j"]["value"] and facts[1] == whole["latency_s"]["value"]


def test_tables_sort_by_mouse_and_keyboard(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.evaluate("document.querySelectorAll('section > details').forEach(each => { each.open = true; })")
    heading = page.locator("#layers-table th button", has_text="energy").first

    def energies() -> list[float]:
        return [float(str(row[4])) for row in values(page, "layers-table")]

    before = energies()
    heading.click()
    assert energies() == sorted(before) != before
    heading.focus()
    page.keyboard.press("Enter")
    assert energies() == sorted(before, reverse=True)
    assert page.locator("#layers-table th[aria-sort=descending]").count() == 1
    page.locator("#chips-table th button", has_text="energy").first.click()
    known = [row[2] is not None for row in values(page, "chips-table")]
    assert known == sorted(known, reverse=True)  # what has no value is last
    page.locator("#layers-table th button", has_text="layer").first.click()
    names = [str(row[0]) for row in values(page, "layers-table")]
    assert names == sorted(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(opened: tuple[Page, list[str]], scheme: Any) -> None:
    page, _ = opened
    page.emulate_media(color_scheme=scheme)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    ink = page.evaluate("getComputedStyle(document.body).color")
    label = page.locator("#energy-chart svg .role-axis-label text").first
    assert label.evaluate("each => getComputedStyle(each).fill") == ink


def test_only_charts_and_tables_scroll_sideways_on_a_phone(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    whole = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator("#energy-chart .scroll").evaluate("each => each.scrollWidth > each.clientWidth")
    assert whole is not None
    page.set_viewport_size(whole)


def test_cells_without_a_value_are_aligned_as_the_numbers_of_their_column(
    opened: tuple[Page, list[str]],
) -> None:
    page, _ = opened
    lost = page.eval_on_selector_all(
        "thead th.number",
        "heads => heads.flatMap(head => [...head.closest('table').querySelectorAll("
        "`tbody tr > :nth-child(${head.cellIndex + 1})`)]).filter(cell => !cell.matches('.number')).length",
    )
    assert lost == 0 and page.locator("td.number:not([data-value])").count() > 0


def test_the_page_prints_on_white_with_all_tables(opened: tuple[Page, list[str]]) -> None:
    page, complaints = opened
    page.emulate_media(color_scheme="dark", media="print")
    assert (
        page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')").strip()
        == "#fff"
    )
    assert not page.locator("nav").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("document.querySelector('section > details').open = false")
    content = page.pdf(prefer_css_page_size=True)
    assert (
        content.startswith(b"%PDF") and content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") > 3
    )
    assert page.locator("section > details:not([open])").count() == 1  # folded again
    assert complaints == []
