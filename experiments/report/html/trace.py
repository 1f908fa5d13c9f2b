"""Find the runs behind a line of a table in the run browser."""

from collections.abc import Sequence

from experiments.report.document import Document
from experiments.report.html.browser import Listed

Trace = dict[tuple[str, str, str], list[int]]  # table, title of the part, label: indices


def trace(documents: Sequence[Document], lines: Sequence[Listed]) -> Trace:
    """Return the indices, in the run browser, of the runs behind every line of ours."""
    places = {line.run.folder: place for place, line in enumerate(lines)}
    found: dict[tuple[str, str, str], set[int]] = {}
    for document in documents:
        for part in document.parts:
            for cell in document.cells:
                if cell.runs and cell.key == part.key:
                    behind = {places[run.folder] for run in cell.runs if run.folder in places}
                    key = (document.name, part.title, cell.row)
                    found.setdefault(key, set()).update(behind)
    return {key: sorted(behind) for key, behind in found.items() if behind}
