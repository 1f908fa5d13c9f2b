"""Write tables in LaTeX, with booktabs."""

import re
from collections.abc import Iterator, Sequence

from experiments.io.output import plain
from experiments.report.document import TEXT, Document, Grid, Part

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "--": "-{}-",
    "†": r"\textdagger{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
} | {character: "\\" + character for character in "&%$#_{}"}
_ANY = re.compile("|".join(map(re.escape, _SPECIAL)))


def latex(document: Document) -> str:
    r"""Return a `table` environment per grid, for `\input` after loading booktabs and graphicx.

    Numbers, order and rounding are those of the Markdown.
    """
    return plain("\n".join(_blocks(document)))


def escaped(text: object) -> str:
    """Return a text escaped for LaTeX, on one line, with a minus before a negative number."""
    line = " ".join(str(text).split())
    minus = re.fullmatch(r"-(?=[\d.])(.*)", line)
    line = _ANY.sub(lambda found: _SPECIAL[found[0]], minus[1] if minus else line)
    return f"$-${line}" if minus else line


def _blocks(document: Document) -> Iterator[str]:
    yield f"% {escaped(document.title)}; needs \\usepackage{{booktabs}} and {{graphicx}}"
    number = 0
    for part in document.parts:
        for grid in part.grids:
            # Notes are under the last grid of their part.
            last = grid is part.grids[-1]
            notes = [*part.notes, document.sources, *document.damaged] if last else []
            yield from _table(document, part, grid, f"{document.name}-{number}", notes)
            number += 1
    yield ""


def _table(
    document: Document, part: Part, grid: Grid, label: str, notes: Sequence[str]
) -> Iterator[str]:
    caption = ". ".join(
        text.rstrip(".:") for text in (document.title, part.title, grid.caption) if text
    )
    columns = "l" + "".join("l" if name in TEXT else "r" for name in grid.header[1:])
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escaped(caption)}.}}"
    yield rf"\label{{tab:{label}}}"
    # A wide table is scaled down to the text; a narrow one is not scaled up.
    yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    yield rf"\begin{{tabular}}{{{columns}}}"
    yield r"\toprule"
    yield _line(grid.header)
    yield r"\midrule"
    yield from map(_line, grid.lines)
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    if notes:
        yield r"\par\smallskip\footnotesize\raggedright"
        yield from (rf"{escaped(note)}\par" for note in notes)
    yield r"\end{table}"


def _line(cells: tuple[object, ...]) -> str:
    # A cell that begins with * or [ would be an argument of a double backslash.
    return " & ".join(map(escaped, cells)) + r" \tabularnewline"
