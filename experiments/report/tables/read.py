"""Read tables from `<name>.json`, in this folder or in the `tables` of an experiment.

    {
      "order": 4,                     place among the tables; those without one come last, by name
      "layout": "methods",            or "side_by_side", "comparison"
      "experiment": "squad_roberta",  whose runs; without it, the paper's numbers stand alone
      "paper": "squad",               a file in report/paper, or its content; may be absent
      "title": "...",                 if the paper has no such table
      "intro": "...",
      "line_title": "method",         what a line is
      "lines": "layers",              lines of the experiment's `ReportInfo`; default: its methods
      "figure": "layers",             drawn from the same runs
      "tasks": ["squad-v1.1"],        whose runs; default: all
      "shown_settings": ["epochs"],   settings in the label of every line
      "rows": [["zero-init", "Zero-init."], ["lora", null]],   ours, and the paper's row beside it
      "blocks": [{"caption": "...", "paper": true, "counts": false, "defaults": {}, "columns": []}],
      "reads": ["peak_lr"],           fields of result.json that only notes read
      "reads_if_there": ["..."],      the same, for fields that older runs lack
      "notes": ["a text", {"note": "selection", "by": "the validation loss"}],
      "row_note": "chosen_rates",
      "pairs": [["lora", "full"]], "paired": ["EM"],   lines compared seed by seed, in these columns
      "headlines": [{"title": "F1 (%)", "column": "1.1 F1"}],   drawn beside the paper's
      "drawn_with": ["flickr8k"],     other tables that have these columns, in the same figure
      "of": "squad", "ours": "zero-init"   a comparison: of which table, and with which method
    }

A block has columns that the `paper` has too, or not; with `counts` its last line says which tasks
count. A column has a `field` of result.json (none: only the paper has it), `title`, `unit`,
`format` (a name of `formats`, or a number of decimals), and what `Column` has; in `tasks`, `@name`
is a group of the experiment's. `each` makes a column of every task.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from experiments.harness.registry import check_choice
from experiments.harness.report_info import ReportInfo, Score
from experiments.io.files import read_json
from experiments.report import formats
from experiments.report.experiments import report_infos
from experiments.report.paper import PaperTable, paper_table
from experiments.report.rows import Column
from experiments.report.tables import notes
from experiments.report.tables.definition import Block, Headline, Rows, Table
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

FOLDER = Path(__file__).parent
LAST = 1000
NOBODY = ReportInfo(Score("", ""))  # for tables without runs
TABLE: Mapping[str, tuple[Any, Any]] = {  # type and default of each key
    "order": (int, LAST),
    "layout": (Literal["methods", "side_by_side", "comparison"], "methods"),
    "experiment": (str, ""),
    "paper": (str | dict | None, None),
    "title": (str, ""),
    "intro": (str, ""),
    "line_title": (str, "method"),
    "lines": (str | None, None),
    "figure": (Literal["task_bars", "initialisation", "layers", "overfitting"] | None, None),
    "tasks": (tuple[str, ...], ()),
    "shown_settings": (tuple[str, ...], ()),
    "rows": (list | None, None),
    "blocks": (list | None, None),
    "reads": (tuple[str, ...], ()),
    "reads_if_there": (tuple[str, ...], ()),
    "notes": (list, []),
    "row_note": (str | None, None),
    "pairs": (tuple[tuple[str, str], ...], ()),
    "paired": (tuple[str, ...], ()),
    "headlines": (list, []),
    "drawn_with": (tuple[str, ...], ()),
    "of": (str | None, None),
    "ours": (str, ""),
}
DRAWN = ("figure", "headlines", "drawn_with")  # what a comparison does not take over
HEADLINE: Mapping[str, tuple[Any, Any]] = {
    "title": (str, ""),
    "column": (str, ""),
    "paper": (tuple[str, ...], ()),
    "tasks": (tuple[str, ...], ()),
    "over": (str, ""),
}
BLOCK: Mapping[str, tuple[Any, Any]] = {
    "caption": (str, ""),
    "paper": (bool, True),
    "counts": (bool, False),
    "defaults": (dict, {}),  # of its columns
    "columns": (list, None),
}
COLUMN: Mapping[str, tuple[Any, Any]] = {
    "field": (str, ""),
    "title": (str, ""),
    "unit": (str, ""),
    "format": (str | int, "number"),
    "scale": (float, 1.0),
    "tasks": (tuple[str, ...], ()),
    "each": (bool, False),
    "compared": (bool, False),
    "of_machine": (bool, False),
    "if_there": (bool, False),
    "band": (float, 2.0),
}


def tables() -> list[Table]:
    """Return the tables in their order, except those of experiments that are not registered.

    ZiaError names a malformed file, tables that share a name, and one that is drawn with a table
    that is not there or lacks a headline's column.
    """
    known = report_infos()
    folders = [FOLDER, *(info.tables for info in known.values() if info.tables)]
    files = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    names = [path.stem for path in files]
    for path in files:
        if names.count(path.stem) > 1:
            raise ZiaError(f"{path}: there is another table {path.stem}: rename one of them")
    found = [table for path in files if (table := read_table(path, known))]
    _check_drawn_with({table.name: table for table in found})
    return sorted(found, key=lambda table: (table.order, table.name))


def read_table(path: Path, known: Mapping[str, ReportInfo]) -> Table | None:
    """Return the table in a file, or None if its experiment is not `known`."""
    stored: dict[str, Any] = dict(read_json(path))
    if "of" in stored:
        compared = read_json(path.with_name(f"{stored['of']}.json"))
        stored = {key: value for key, value in compared.items() if key not in DRAWN} | stored
    keys = _checked(TABLE, stored, str(path))
    del keys["of"]
    info = known.get(keys["experiment"]) if keys["experiment"] else NOBODY
    if info is None:
        return None
    paper = keys["paper"]
    paper = paper_table(paper, str(path)) if paper is not None else None
    if keys["layout"] == "side_by_side" and not (paper and keys["experiment"]):
        raise ZiaError(f"{path}: the layout side_by_side needs 'experiment' and 'paper'")
    if keys["layout"] == "comparison" and not keys["ours"]:
        raise ZiaError(f"{path}: the layout comparison needs the method 'ours'")
    rows = keys["rows"] if keys["rows"] is not None else [[None, row] for row in _rows(paper)]
    blocks = keys["blocks"] or [_papers_own(paper)]
    found = tuple(_block(block, info, str(path)) for block in blocks)
    by_title = {column.title: column for block in found for column in block.columns}
    headlines = [
        Headline(**_checked(HEADLINE, one, f"{path}, a headline")) for one in keys["headlines"]
    ]
    for title in (*keys["paired"], *(headline.column for headline in headlines)):
        check_choice("column", title, by_title, of=str(path))
    if keys["lines"] is not None:
        check_choice("lines", keys["lines"], info.lines, of=str(keys["experiment"]))
    return Table(
        **keys
        | {
            "name": path.stem,
            "info": info,
            "paper": paper,
            "rows": conform_fields({"rows": Rows}, {"rows": rows}, str(path))["rows"],
            "blocks": found,
            "notes": tuple(notes.note(note, str(path)) for note in keys["notes"]),
            "row_note": notes.row_note(keys["row_note"], str(path)),
            "headlines": tuple(headlines),
            "paired": tuple(by_title[title] for title in keys["paired"]),
        }
    )


def _check_drawn_with(found: Mapping[str, Table]) -> None:
    for table in found.values():
        for name in table.drawn_with:
            check_choice("table", name, found, of=f"{table.name}.json")
            titles = [column.title for column in found[name].columns]
            for headline in table.headlines:
                check_choice("column", headline.column, titles, of=f"{name}.json")


def _rows(paper: PaperTable | None) -> list[str]:
    return paper.rows() if paper else []


def _papers_own(paper: PaperTable | None) -> dict[str, Any]:
    """The block of a table that names no columns: the paper's."""
    units = {cell.column: cell.unit for cell in reversed(paper.cells)} if paper else {}
    titles = paper.columns() if paper else []
    columns = [
        {"title": t, "unit": units[t], "format": 2, "compared": units[t] in ("%", "points")}
        for t in titles
    ]
    return {"columns": columns}


def _block(stored: Any, info: ReportInfo, where: str) -> Block:
    block = _checked(BLOCK, stored, f"{where}, a block")
    defaults = block.pop("defaults")
    columns = [c for one in block.pop("columns") for c in _columns(one, defaults, info, where)]
    if block["counts"] and info.control is None:
        raise ZiaError(f"{where}: a block counts tasks, but the experiment has no control")
    return Block(tuple(columns), **block)


def _columns(
    stored: Any, defaults: dict[str, Any], info: ReportInfo, where: str
) -> Iterator[Column]:
    column = _checked(COLUMN, stored, f"{where}, a column", defaults)
    tasks: list[str] = []
    for name in column["tasks"]:
        if name.startswith("@"):
            check_choice("group of tasks", name[1:], info.groups, of=where)
            tasks += info.groups[name[1:]].tasks
        else:
            tasks.append(name)
    each = column.pop("each")
    column["format"] = formats.named(column["format"], where)
    whole = Column(**column | {"tasks": tuple(tasks)})
    if not each:
        yield whole
        return
    for task in tasks:
        yield replace(whole, title=info.task_titles.get(task, task), tasks=(task,))


def _checked(
    kinds: Mapping[str, tuple[Any, Any]],
    stored: Any,
    where: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise ZiaError(f"{where} must be a JSON object with {', '.join(kinds)}")
    for key in (*stored, *defaults):
        check_choice("key", key, kinds, of=where)
    types = {name: kind for name, (kind, _) in kinds.items()}
    usual = {name: default for name, (_, default) in kinds.items()}
    return conform_fields(types, {**usual, **defaults, **stored}, where)
