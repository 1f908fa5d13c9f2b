"""Fill the marked blocks of READMEs from runs.

<!-- zia readme: table squad small 1 -->     the first grid of squad.md for the profile small
<!-- zia readme: pairs CIDEr coco flickr8k -->   differences of methods in a column of tables
<!-- zia readme: decided -->                 how many claims each profile decides
<!-- zia readme: findings squad_roberta -->  an experiment's claims, with verdicts and numbers
<!-- zia readme: stages mini -->             the runs and the CPU time of each stage of a profile
...
<!-- end of zia readme -->
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.harness.registry import check_choice
from experiments.io.files import check_output, write_atomic
from experiments.report import formats, stages
from experiments.report.claims.matrix import LOOKS, matrix, profiles_of
from experiments.report.claims.results import Result, results_of
from experiments.report.claims.summary import decided
from experiments.report.document import Document
from experiments.report.experiments import report_infos
from experiments.report.runs import PROFILE_ORDER, Runs, read_runs
from experiments.report.statistics import NO_RUNS
from experiments.report.tables import write
from zia_core.errors import ZiaError

BEGIN = re.compile(r"<!-- zia readme: (.*?) -->\n")
END = "<!-- end of zia readme -->\n"
NOTHING = "No runs yet.\n"
MINUS = " minus "  # in the name of a pair
FOLDERS = (".", "experiments/**", "results")


def marked(root: Path) -> list[Path]:
    """Return the READMEs of the repository at `root` that have blocks to fill."""
    found = sorted(path for folder in FOLDERS for path in root.glob(f"{folder}/README.md"))
    return [path for path in found if BEGIN.search(_text(path))]


def update(files: Sequence[Path], roots: Sequence[Path], *, keep_going: bool = False) -> list[Path]:
    """Fill the marked blocks of `files` from run folders; return the files that changed.

    ZiaError names a block that is not closed or that cannot be made, and a damaged run folder;
    then nothing is written.
    """
    texts = {path: _text(path) for path in files}
    for path in texts:
        check_output(path.parent)
    new = dict(
        zip(texts, filled(texts.items(), read_runs(roots, keep_going=keep_going)), strict=True)
    )
    changed = [path for path, text in new.items() if text != texts[path]]
    for path in changed:
        write_atomic(path, new[path])
    return changed


def filled(texts: Iterable[tuple[Path, str]], runs: Runs) -> list[str]:
    """Return each text with its blocks filled; the paths are for messages."""
    documents = {document.name: document for document in write.made_of(runs)}
    results = results_of(runs)
    makers: dict[str, Callable[..., str]] = {
        "table": lambda *what: _table(documents, *what),
        "pairs": lambda *what: _pairs(documents, *what),
        "decided": lambda *what: _decided(results, *what),
        "findings": lambda *what: _findings(results, *what),
        "stages": lambda profile: stages.table(profile),
    }
    return [_filled(path, text, makers) for path, text in texts]


def _filled(path: Path, text: str, makers: dict[str, Callable[..., str]]) -> str:
    parts = []
    place = 0
    while begin := BEGIN.search(text, place):
        end = text.find(END, begin.end())
        following = BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise ZiaError(f"{path}: the block '{begin[1]}' is not closed: put {END.strip()} below")
        kind, *what = begin[1].split()
        try:
            check_choice("kind of block", kind, makers)
            made = makers[kind](*what)
        except (ZiaError, TypeError) as error:  # TypeError: more or fewer words than it takes
            raise ZiaError(f"{path}: the block '{begin[1]}' cannot be made: {error}") from error
        parts += [text[place : begin.end()], made]
        place = end
    return "".join([*parts, text[place:]])


def _table(documents: dict[str, Document], name: str, profile: str, number: str) -> str:
    """The grid of that number, in every part of the table of that profile."""
    check_choice("table", name, documents)
    found = [part for part in documents[name].parts if part.key.get("profile") == profile]
    if not found:
        return NOTHING
    made = []
    for part in found:
        check_choice("grid", number, [str(n + 1) for n in range(len(part.grids))])
        grid = part.grids[int(number) - 1]
        title = f"{part.title}\n\n" if len(found) > 1 else ""
        made.append(title + formats.markdown_table(grid.header, grid.lines))
    return "\n".join(made)


def _pairs(documents: dict[str, Document], column: str, *names: str) -> str:
    """A row per pair of methods and a column per profile: the difference in a column of tables."""
    cells = []
    for name in names:
        check_choice("table", name, documents)
        cells += [c for c in documents[name].cells if c.column == column and MINUS in c.row]
    profiles = [p for p in PROFILE_ORDER if p in {cell.key["profile"] for cell in cells}]
    texts: dict[str, dict[str, str]] = {}
    for cell in cells:
        texts.setdefault(cell.row.removesuffix(" †"), {})[cell.key["profile"]] = cell.text
    rows = [(pair, *(of.get(p, formats.NOTHING) for p in profiles)) for pair, of in texts.items()]
    header = (column, *(f"`{profile}`" for profile in profiles))
    return formats.markdown_table(header, rows) if rows else NOTHING


def _decided(results: Sequence[Result]) -> str:
    """A sentence: how many claims each profile decides."""
    told = [decided(results, profile) for profile in profiles_of(results)]
    return f"{'; '.join(told)}.\n" if told else NOTHING


def _findings(results: Sequence[Result], experiment: str) -> str:
    """A row per claim of an experiment and a column per profile: verdict and numbers."""
    check_choice("experiment", experiment, report_infos())
    profiles = profiles_of(results)
    rows = [
        (line.claim.title, *(_finding(line.results[profile]) for profile in profiles))
        for line in matrix(results)
        if line.claim.experiment == experiment
    ]
    header = ("claim", *(f"`{profile}`" for profile in profiles))
    return formats.markdown_table(header, rows) if rows else NOTHING


def _finding(found: Sequence[Result]) -> str:
    if {result.verdict for result in found} == {NO_RUNS}:
        return formats.NOTHING
    return "; ".join(
        f"{LOOKS[result.verdict].emoji} **{result.verdict}**: {result.finding.in_short}"
        for result in found
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ZiaError(f"cannot read {path}: {error}") from error
