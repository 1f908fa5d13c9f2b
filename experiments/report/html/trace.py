"""Which lines of the run browser are behind a line of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.document import Document, Part
from experiments.report.html.browser import Listed

Trace = dict[tuple[str, str, str], list[int]]  # table, title of the part, label: places


def trace(documents: Sequence[Document], lines: Sequence[Listed]) -> Trace:
    """Return, for every line of a table with runs of ours, their places in the run browser."""
    places = {line.run.folder: place for place, line in enumerate(lines)}
    found: dict[tuple[str, str, str], set[int]] = {}
    for document in documents:
        for part in document.parts:
            for cell in document.cells:
                if cell.runs and _is_of(cell.key, part):
                    behind = {places[run.folder] for run in cell.runs if run.folder in places}
                    key = (document.name, part.title, cell.row)
                    found.setdefault(key, set()).update(behind)
    return {key: sorted(behind) for key, behind in found.items() if behind}


def _is_of(key: Mapping[str, Any], part: Part) -> bool:
    """Whether the title of the part names the profile, backbone, data and version of the cell."""
    begin = f"{key.get('profile')}: {key.get('backbone')}, data {key.get('data')} ("
    version = any(f"version {key.get('version')}{end}" in part.title for end in ",)")
    return part.title.startswith(begin) and version
