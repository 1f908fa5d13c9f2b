"""`report.html` in a real browser: no errors, no requests, filter, sort, open, phone, dark, print.

Needs the package playwright and a Chromium of the system (Debian: `apt-get install chromium`).
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.report.html.report import write_report
from tests.report.run_folders import write_predictions, write_run, write_squad, write_vtab

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not here")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

HOSTILE = "</script><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">"
DESKTOP, PHONE = (1440, 900), (360, 740)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    losses = [2.3 - 0.01 * step for step in range(100)]
    for method, accuracy in (("zero-init", 60.0), ("full", 9.5), ("linear", 50.0)):
        for seed in range(3):
            write_vtab(root, method, "cifar10", seed, accuracy + seed, losses=losses)
    write_squad(root, "lora", "squad-v1.1", 0, 50)
    method = HOSTILE.replace("/", "|")  # it becomes the name of a folder
    write_run(root, method, state="failed", reason=HOSTILE)
    run = write_run(root, "lora", losses=[2.0, 1.5], settings={"note": HOSTILE})
    asked = {"set": "nine", "id": "list", "decoding": "greedy"}
    write_predictions(run, [asked | {"output": HOSTILE + "x" * 5000}])
    return write_report([root], tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as tool:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=root)
        yield browser
        browser.close()


def opened(chromium: Any, report: Path, size: tuple[int, int] = DESKTOP, **options: Any) -> Any:
    width, height = size
    page = chromium.new_page(viewport={"width": width, "height": height}, **options)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith("data:") or request.url == report.as_uri()
            else page.faults.append(request.url)
        ),
    )
    page.goto(report.as_uri())
    return page


def column(page: Any, place: int) -> list[str]:
    """The visible cells of a column of the run browser, from the top."""
    rows = page.locator(f"#browser tr[data-run]:not([hidden]) > td:nth-child({place})")
    return [text.strip() for text in rows.all_inner_texts()]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_opens_without_errors_or_requests_and_fits(
    chromium: Any, report: Path, size: tuple[int, int]
) -> None:
    page = opened(chromium, report, size)
    assert page.title() == "Zero-init attention, reproduced"
    for button in page.locator("#browser tbody button").all():
        button.click()
    for summary in page.locator("summary").all():
        if not summary.evaluate("each => each.parentElement.open"):
            summary.click()
    assert page.locator("tr.run").count() == 12
    assert page.locator("tr.run svg path").count() == 10
    broken = "images => images.filter(each => !each.complete || !each.naturalWidth).length"
    page.locator("img").last.scroll_into_view_if_needed()
    assert page.locator("img").count() >= 3
    assert page.locator("img").evaluate_all(broken) == 0
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    assert page.faults == []


def test_the_runs_are_filtered(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    page.fill("#filter", "  ZERO-init cifar10 ")
    assert column(page, 1) == ["zero-init"] * 3
    assert page.inner_text("#shown") == "3 of 12"
    page.press("#filter", "Enter")  # nothing is submitted
    page.fill("#filter", "no such run")
    assert column(page, 1) == []
    page.fill("#filter", "")
    assert page.inner_text("#shown") == "12 of 12"


def test_the_runs_are_sorted_and_numbers_as_numbers(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    page.fill("#filter", "vtab_vit")
    by_score = page.locator("#browser th", has_text="score")
    by_score.locator("button").click()
    scores = ["9.5", "10.5", "11.5", "50", "51", "52", "60", "61", "62"]
    assert column(page, 10) == scores
    assert by_score.get_attribute("aria-sort") == "ascending"
    page.locator("tr[data-run^='vtab_vit/full-'] button").first.click()  # stays with its run
    by_score.locator("button").click()
    assert column(page, 10) == scores[::-1]
    assert (
        page.locator("tr.run")
        .evaluate("row => row.previousElementSibling.innerText")
        .endswith("9.5")
    )
    page.fill("#filter", "")
    page.locator("#browser th", has_text="method").locator("button").click()
    assert column(page, 1) == sorted(column(page, 1))
    assert by_score.get_attribute("aria-sort") == "none"


def test_a_run_opens_with_its_settings_curves_and_machine(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    button = page.locator("tr[data-run^='vtab_vit/full-'] button").first
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    shown = page.inner_text("tr.run")
    for text in ("training loss", "accuracy\n0.095", "protocol\nvpt", "2 threads of Test CPU"):
        assert text in shown
    page.fill("#filter", "squad")
    assert not page.locator("tr.run").is_visible()
    page.fill("#filter", "")
    button.click()
    assert page.locator("tr.run").count() == 0


def test_a_line_of_a_table_shows_the_runs_behind_it(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    page.fill("#filter", "squad")
    page.locator("#table-vtab_tasks .trace", has_text="zero-init").first.click()
    assert (column(page, 1), column(page, 3)) == (["zero-init"] * 3, ["cifar10"] * 3)
    assert page.inner_text("#shown") == "3 of 12"
    assert page.input_value("#filter") == ""
    playwright.expect(page.locator("#runs h2")).to_be_in_viewport()
    page.fill("#filter", "squad")
    assert column(page, 1) == ["lora"]


def test_hostile_texts_are_shown_as_texts(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    for button in page.locator("#browser tbody button").all():
        button.click()
    page.wait_for_timeout(100)
    assert page.title() == "Zero-init attention, reproduced"
    assert page.locator("img:not([src^='data:'])").count() == 0
    assert HOSTILE in page.inner_text("#samples")
    assert f"Failed: {HOSTILE}" in page.inner_text("#browser")
    assert page.faults == []


def test_its_own_policy_forbids_what_the_template_did_not_put_there(
    chromium: Any, report: Path, tmp_path: Path
) -> None:
    evil = "<script>document.title='owned'</script><img src=http://127.0.0.1:9/x>"
    changed = tmp_path / "report.html"
    changed.write_text(report.read_text().replace("<h2>Claims</h2>", evil))
    page = opened(chromium, changed)
    assert page.title() == "Zero-init attention, reproduced"
    assert sum("Content Security Policy" in fault for fault in page.faults) >= 2


def test_it_is_light_or_dark_as_the_reader_s_system(chromium: Any, report: Path) -> None:
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    text = "parseInt(getComputedStyle(document.body).color.match(/\\d+/)[0])"
    light = opened(chromium, report, color_scheme="light")
    dark = opened(chromium, report, color_scheme="dark")
    assert light.evaluate(brightness) > 240 > 60 > light.evaluate(text)
    assert dark.evaluate(brightness) < 40 < 200 < dark.evaluate(text)
    dark.emulate_media(media="print", color_scheme="dark")
    assert dark.evaluate(brightness) > 240


def test_it_prints_its_notes_and_not_its_controls(chromium: Any, report: Path) -> None:
    page = opened(chromium, report)
    notes = page.locator("#table-vtab_tasks .notes").first
    assert not notes.is_visible()
    page.emulate_media(media="print")
    assert notes.is_visible()
    assert not page.locator("#browser").is_visible()
    assert not page.locator("#filter").is_visible()
    assert len(page.pdf()) > 50_000


def test_without_scripts_everything_but_the_browser_is_there(chromium: Any, report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#browser tbody tr").count() == 12
    assert not page.locator("#filter").is_visible()
    context.close()
