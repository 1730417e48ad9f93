"""The page in a headless browser: nothing leaves, all that moves moves, and hostile text stays text."""

import json
import os
import shutil
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nvreg.document import PageSection, Verdict
from nvreg.report.analysis import analyse
from nvreg.report.webpage import html
from nvreg.report.writing import write_combined, write_comparison, write_report
from tests.report.conftest import SyntheticRun

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)"),
]

HOSTILE = '</script><script>window.hacked=1</script>"><img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(browser):
    """Opens a page as a reader would; afterwards it has asked for nothing and complained of nothing."""
    pages = []

    def look(path: Path, **options):
        context = browser.new_context(**options)
        page = context.new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        pages.append((path, page, seen))
        page.goto(path.resolve().as_uri())
        return page

    yield look
    for path, page, seen in pages:
        assert seen == [path.resolve().as_uri()]
        page.context.close()


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """The report of a run with two methods."""
    run = SyntheticRun(tmp_path_factory.mktemp("page") / "run", planned=6)
    run.methods = {name: {"space": {"tau_sigma": {"cross": [0, 1]}}} for name in ("nv", "nv-heads")}
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    for place, method in enumerate(("nv", "nv", "nv-heads", "nv-heads", "nv"), start=1):
        validation = {"validation": 3 - place / 10, "test": 3 - place / 9}
        setting = {"tau_sigma": {"cross": place / 10}}
        run.add_nll(
            news=2 + place / 50, talks=validation, books=3 - place / 8, method=method, settings=setting,
            strength=place / 10,
        )  # fmt: skip
    write_report(analyse(run.write()), ["html"])
    return run.directory / "report.html"


@pytest.fixture(scope="module")
def of_several_runs(tmp_path_factory) -> dict[str, Path]:
    """The pages of two runs with two methods each: all in one table, and one against the other."""
    place, analyses = tmp_path_factory.mktemp("runs"), []
    for name, worse in {"plain": 0.0, "tuned": 0.1}.items():
        run = SyntheticRun(place / name, planned=4)
        run.methods = {method: {"space": {"tau_sigma": {"cross": [0, 1]}}} for method in ("nv", "nv-heads")}
        run.add_nll(news=2.0 + worse, talks=3.0, books=3.0)
        for number, method in enumerate(("nv", "nv", "nv-heads", "nv-heads"), start=1):
            changed = {"validation": 3 - number / 10, "test": 3 - number / 9}
            run.add_nll(
                news=2 + number / 50, talks=changed, books=3 + worse - number / 8, method=method,
                settings={"tau_sigma": {"cross": number / 10}}, strength=number / 10,
            )  # fmt: skip
        analyses.append(analyse(run.write()))
    write_combined(analyses, ["html"], place / "both")
    write_comparison(*analyses, ["html"], place / "compared")
    return {"combined": place / "both/combined.html", "comparison": place / "compared/comparison.html"}


def first_column(page) -> list[str]:
    return page.locator("table").first.locator("tbody tr th:first-child").all_inner_texts()


def test_tables_sort_by_any_column_and_say_so(several, look):
    page = look(several)
    table = page.locator("table").first
    header = table.locator("thead th").nth(2)
    before = table.locator("tbody tr td:nth-child(4)").all_inner_texts()
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    values = [
        float(cell.get_attribute("data-value") or "nan")
        for cell in table.locator("tbody tr td:nth-child(3)").all()
    ]
    known = [value for value in values if value == value]
    assert known == sorted(known)
    assert np.isnan(values[len(known) :]).all()
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    values = [
        float(cell.get_attribute("data-value") or "nan")
        for cell in table.locator("tbody tr td:nth-child(3)").all()
    ]
    assert [value for value in values if value == value] == sorted(known, reverse=True)
    assert sorted(table.locator("tbody tr td:nth-child(4)").all_inner_texts()) == sorted(before)
    table.locator("thead th").first.locator("button").click()
    assert first_column(page) == sorted(first_column(page))
    assert header.get_attribute("aria-sort") == "none"


def test_a_cell_unfolds_to_all_that_is_known(several, look):
    page = look(several)
    cell = page.locator("td details").first
    assert cell.locator("li").first.is_hidden()
    cell.locator("summary").focus()
    page.keyboard.press("Enter")
    facts = cell.locator("li").all_inner_texts()
    assert facts[0].startswith("difference ")
    assert facts[1].startswith("choice repeated {")
    assert facts[2].startswith("choice as given [")


def test_a_row_of_the_forest_tells_all_on_hover_and_on_focus(several, look):
    page = look(several)
    tip = page.get_by_role("tooltip")
    assert tip.is_hidden()
    rows = page.locator(".forest [role=listitem]")
    better = page.locator(".forest .better").first
    better.hover()
    told = tip.inner_text().splitlines()
    for beginning in ("perplexity ", "difference ", "choice repeated {", "choice as given [", "p ", "trial "):
        assert any(line.startswith(beginning) for line in told), (beginning, told)
    assert "40 test examples" in told
    assert better.get_attribute("aria-label") == "; ".join(told)
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.mouse.move(0, 0)
    page.locator("figure.forest select").last.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === document.querySelector('.forest [role=listitem]')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert tip.inner_text() == rows.nth(2).get_attribute("data-tip")


def test_rows_of_the_forest_are_chosen_by_menus(several, look):
    page = look(several)
    rows = page.locator(".forest [role=listitem]")
    count = rows.count()
    selection, method = page.locator("figure.forest select").all()
    method.select_option("nv")
    shown = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(shown) < count
    assert {row.get_attribute("data-method") for row in shown} == {"nv"}
    selection.select_option("in-domain")
    shown = [row for row in rows.all() if row.is_visible()]
    assert {row.get_attribute("data-protocol") for row in shown} == {"in-domain"}
    heights = [row.bounding_box()["y"] for row in shown]
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] < 400


def test_better_is_on_the_right_whatever_the_metric(several, look):
    page = look(several)
    row = page.locator(".forest .better").first
    zero = page.locator(".forest .zero").first.bounding_box()["x"]
    assert row.get_attribute("data-tip").splitlines()[2].startswith("difference -")  # of a perplexity
    assert row.locator(".dot").bounding_box()["x"] > zero


def test_points_are_coloured_by_a_parameter_and_moved_to_a_domain(several, look):
    page = look(several)
    point = page.locator("figure[data-colours] circle[data-at]").first
    colour, domain = page.locator("figure[data-colours] select").all()
    before = point.evaluate("point => getComputedStyle(point).fill")
    colour.select_option("tau_sigma cross")
    assert point.evaluate("point => getComputedStyle(point).fill") != before
    colour.select_option("")
    assert point.evaluate("point => getComputedStyle(point).fill") == before
    place = point.get_attribute("cy")
    domain.select_option("books")
    assert point.get_attribute("cy") != place
    point.hover()
    assert page.get_by_role("tooltip").inner_text().startswith("trial ")


def test_sections_open_by_keyboard_and_commands_are_copied(several, look):
    page = look(several, permissions=["clipboard-read", "clipboard-write"])
    section = page.locator("details.section", has_text="How it was measured").last
    section.locator("summary").first.focus()
    page.keyboard.press("Enter")
    block = section.locator("pre")
    button = block.locator("button")
    button.click()
    page.wait_for_function("document.querySelector('pre button').textContent === 'copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[1].startswith("nvreg report ")


def test_the_theme_follows_the_system_until_it_is_switched(several, look):
    page = look(several, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    button = page.locator("#theme")
    button.click()
    light = page.evaluate(background)
    assert (button.inner_text(), light) == ("theme: light", "rgb(255, 255, 255)")
    button.click()
    assert (button.inner_text(), page.evaluate(background)) == ("theme: dark", dark)
    assert dark != light


@pytest.mark.parametrize("name", ["combined", "comparison"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_of_several_runs_read_as_one_of_one_does(of_several_runs, look, name, width):
    page = look(of_several_runs[name], viewport={"width": width, "height": 844})
    assert page.locator(".verdict p").count() >= 2
    assert page.locator("details.section[open] > summary h2").all_inner_texts() == [
        "perplexity (lower is better)",
        "Explore all settings",
    ]
    row = page.locator(".forest [role=listitem]").last
    row.hover()
    assert "difference " in page.get_by_role("tooltip").inner_text()
    figure = page.locator("figure[data-colours]")
    assert figure.locator(".samples .legend").count() == 2
    point = figure.locator("circle[data-at]").first
    point.hover()
    assert " of " in page.get_by_role("tooltip").inner_text().splitlines()[0]
    before = point.evaluate("point => getComputedStyle(point).fill")
    menu = figure.locator("select").first
    assert menu.locator("option").all_inner_texts() == ["run", "method", "tau_sigma cross"]
    fills = "all => new Set(all.map(each => getComputedStyle(each).fill)).size"
    menu.select_option("label:method")
    assert figure.locator("circle[data-at]").evaluate_all(fills) == 2
    assert figure.locator(".samples").is_hidden()
    menu.select_option("")
    assert point.evaluate("point => getComputedStyle(point).fill") == before
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    commands = page.locator("pre").last.inner_text()
    assert f"nvreg {'compare' if name == 'comparison' else 'report'} " in commands


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(several, look, width):
    page = look(several, viewport={"width": width, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    labels = page.locator(".forest .label")
    for box in [label.bounding_box() for label in labels.all()]:
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("width", [1200, 390])
def test_marks_of_a_forest_stand_level_with_their_labels_or_below_them(several, look, width):
    page = look(several, viewport={"width": width, "height": 844})
    for row in page.locator(".forest .row:has(.dot)").all():
        label, dot = (_middle(row.locator(each).bounding_box()) for each in (".label", ".dot"))
        assert abs(dot - label) < 2 if width == 1200 else 20 < dot - label < 40
    first, axis = (page.locator(f".forest {each}").first.bounding_box() for each in (".label", ".axis text"))
    assert 10 < first["y"] - axis["y"] < 60


def _middle(box) -> float:
    return box["y"] + box["height"] / 2


def _overlap(one, other) -> bool:
    return all(
        one[side] < other[side] + other[length] and other[side] < one[side] + one[length]
        for side, length in (("x", "width"), ("y", "height"))
    )


def test_paper_is_white_without_controls_and_with_all_sections(several, look):
    page = look(several, color_scheme="dark", viewport={"width": 718, "height": 1047})  # of a sheet of paper
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#theme").is_hidden()
    assert page.locator(".forest svg.rows").bounding_box()["height"] < 1000
    for row in page.locator(".forest .row:has(.dot)").all():
        label, dot, numbers = (row.locator(each).bounding_box() for each in (".label", ".dot", ".numbers"))
        assert abs(_middle(label) - _middle(dot)) < 2
        assert label["x"] + label["width"] <= dot["x"] < numbers["x"]
    feet = [page.locator(f".forest .axis .{name}").bounding_box() for name in ("first", "what", "last")]
    assert all(not _overlap(one, other) for one, other in combinations(feet, 2))
    assert all(page.evaluate("[...document.querySelectorAll('details.section')].map(each => each.open)"))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not all(page.evaluate("[...document.querySelectorAll('details.section')].map(each => each.open)"))


def test_hostile_texts_stay_text(tmp_path, look):
    run = SyntheticRun(tmp_path / "run", protocols=("in-domain",))
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    run.add_nll(news=1.9, talks=2.9, books=2.9, settings={"tau_sigma": {"cross": 0.5}}, strength=0.1)
    for domain in run.domains:
        records = [{"source": f"{HOSTILE} {n}", "target": HOSTILE} for n in range(40)]
        file = tmp_path / f"{domain}.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        from nvreg.data import Examples

        run.files[domain], run.fingerprints[domain] = str(file), Examples(records).fingerprint
        for key in ("key0", "key1"):
            path = run.directory / "examples" / key / f"{domain}.test.parquet"
            frame = pd.read_parquet(path)
            frame.assign(prediction=[f"{key} {HOSTILE}"] * len(frame)).to_parquet(path)
    directory = run.write()
    experiment = directory / "experiment.yaml"
    experiment.write_text(experiment.read_text().replace("name: synthetic", f"name: {json.dumps(HOSTILE)}"))
    write_report(analyse(directory), ["html"], examples=4)
    page = look(directory / "report.html")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("h1").inner_text()
    assert page.locator("td.text mark").first.inner_text() == "key0"
    assert HOSTILE in page.locator("td.text", has=page.locator("mark")).first.inner_text()


def test_no_script_but_the_page_s_own_runs(tmp_path, browser):
    path = tmp_path / "page.html"
    path.write_text(
        html("title", ["# x", Verdict(["fine"]), PageSection("a", ["b"])]).replace(
            "<main>", "<main><script>window.hacked = 1</script>"
        )
    )
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.hacked") is None
    assert page.locator("#theme").is_visible()
    with pytest.raises(sync_api.Error):
        page.evaluate("fetch('https://example.org/')")
    page.close()


def test_a_large_report_opens_within_two_seconds(tmp_path, look):
    """500 settings of four parameters, on 12 domains, by 5 metrics."""
    rng = np.random.default_rng(0)
    names = ["home", *(f"domain-{place}" for place in range(1, 12))]
    run = SyntheticRun(
        tmp_path / "run", metric="nll", metrics=("nll", "accuracy", "macro-f1", "brier", "ece"),
        domains={name: ("validation", "test") for name in names}, planned=500, task="classification",
    )  # fmt: skip
    labels = {name: {split: rng.integers(0, 3, 12) for split in ("validation", "test")} for name in names}
    logits = {name: {split: rng.normal(size=(12, 3)) for split in ("validation", "test")} for name in names}
    for number in range(501):
        settings = {"tau_sigma": {role: float(rng.uniform()) for role in ("encoder", "cross")}}
        settings |= {"tau_mu": {role: float(rng.uniform(0.1, 0.9)) for role in ("encoder", "cross")}}
        if number < 8:
            noisy = {
                name: {split: rows + rng.normal(scale=0.1, size=rows.shape) for split, rows in of.items()}
                for name, of in logits.items()
            }
            run.add_logits(noisy, labels, settings=settings if number else None, strength=number / 1000)
        else:  # one of those, under another number
            run.lines.append(
                run.lines[1 + number % 7]
                | {"number": number, "key": f"key{1 + number % 7}", "settings": settings}
            )
    for number, line in enumerate(run.lines):
        line["key"] = f"key{number}"
        link = run.directory / "examples" / f"key{number}"
        if not link.exists():
            link.symlink_to(f"key{1 + number % 7}")
    write_report(analyse(run.write()), ["html"])
    path = run.directory / "report.html"
    assert path.stat().st_size < 2 * 1024**2
    page = look(path)
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    begun = time.perf_counter()
    page.locator("table").first.locator("thead button").nth(2).click()
    assert page.locator(".point[data-at]").count() == 500
    assert timing < 2000
    assert time.perf_counter() - begun < 2
