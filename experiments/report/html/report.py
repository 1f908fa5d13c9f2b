"""Write `report.html`: claims, tables, figures, samples and every run on one page.

The page is one file: pictures, styles and the script are in it, and its own policy forbids it to
load or run anything else. Every text of a run is escaped by the template engine.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from experiments.io.files import check_output, write_atomic
from experiments.io.output import plain
from experiments.report.claims.matrix import LOOKS, matrix, profiles_of
from experiments.report.claims.results import results_of
from experiments.report.claims.summary import decided
from experiments.report.claims.write import document
from experiments.report.document import Document
from experiments.report.figures import beside_paper, style, verdicts
from experiments.report.figures.drawn import Drawn
from experiments.report.figures.write import Kind, by_kind
from experiments.report.html import text
from experiments.report.html.browser import browse
from experiments.report.html.provenance import origins
from experiments.report.html.samples import samples
from experiments.report.html.trace import trace
from experiments.report.runs import Runs, read_runs
from experiments.report.tables import write

NAME = "report.html"
TEMPLATES = Path(__file__).with_name("templates")
SHOWN_FIRST = (verdicts.draw, beside_paper.draw)  # the first as a table
ABOUT = {
    "mini": "Generated data and pocket models",
    "small": "Real data and small models",
    "paper": "The paper's data and models",
}
PNG_SIZE = slice(16, 24)  # of a PNG file: width and height, four bytes each


@dataclass(frozen=True)
class Picture:
    """A figure in the page."""

    name: str
    about: str
    source: str  # a data: URL
    width: int  # in CSS pixels, 96 per inch
    height: int


def write_report(roots: Sequence[Path], out: Path, *, keep_going: bool = False) -> Path:
    """Write `report.html` into the folder `out` and return its path.

    Equal run folders give equal bytes with one version of matplotlib. ZiaError names a damaged run
    folder; with `keep_going` it is left out and named at the top of the page.
    """
    check_output(out)
    return write_page(page_of(read_runs(roots, keep_going=keep_going)), out)


def write_page(page: str, out: Path) -> Path:
    """Write a page that was made before, as `write_report` does."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / NAME, plain(page))
    return out / NAME


def page_of(
    runs: Runs,
    drawn: Iterable[tuple[Kind, list[Drawn]]] | None = None,
    documents: Sequence[Document] | None = None,
) -> str:
    """Return the page of these runs; figures and tables are made unless they are given."""
    # First what reads most of each run, so that damage is known before anything is made.
    browser = browse(runs)
    written = samples(runs)
    figures = [
        (kind, [_picture(one) for one in made])
        for kind, made in (by_kind(runs) if drawn is None else drawn)
    ]
    results = results_of(runs)
    lines, profiles = matrix(results), profiles_of(results)
    half = ceil(len(lines) / 2)
    claims = document(results)
    if documents is None:
        documents = write.made_of(runs)
    script, styles = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("script.js", "style.css")
    )
    return (
        text.environment(TEMPLATES)
        .get_template("report.html")
        .render(
            script=text.trusted(script),
            styles=text.trusted(styles),
            script_hash=_hash(script),
            style_hash=_hash(styles),
            claims=claims,
            ids={result.claim.sentence: result.claim.id for result in results},
            looks=LOOKS,
            profiles=profiles,
            matrix=[block for block in (lines[:half], lines[half:]) if block],
            decided={profile: decided(results, profile) for profile in profiles},
            about=ABOUT,
            titles={beside_paper.name_of(table.name): table.title for table in documents},
            leading=[made for kind, made in figures if kind.draw is beside_paper.draw],
            tables=documents,
            trace=trace(documents, browser.lines),
            figures=[one for one in figures if one[0].draw not in SHOWN_FIRST],
            written=written,
            browser=browser,
            origins=origins(browser.lines),
            damaged=[sentence for _, sentence in sorted(runs.damaged.items())],
        )
    )


def _picture(drawn: Drawn) -> Picture:
    size = drawn.png[PNG_SIZE]
    width, height = (int.from_bytes(part) for part in (size[:4], size[4:]))
    panel = drawn.figure.axes[0]
    return Picture(
        name=drawn.name,
        about=text.one_line(drawn.figure.get_suptitle() or panel.get_title()),
        source=text.data_address(drawn.png),
        width=round(width * 96 / style.RESOLUTION),
        height=round(height * 96 / style.RESOLUTION),
    )


def _hash(inline: str) -> str:
    """The hash by which the page's policy allows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
