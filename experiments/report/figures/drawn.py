"""A drawn figure: its file name, title and panels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from experiments.harness.report_info import ReportInfo
from experiments.report.experiments import tasks_of
from experiments.report.figures import style
from experiments.report.rows import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure, and the stem of its files."""

    name: str
    figure: "Figure"

    @cached_property
    def png(self) -> bytes:
        """The figure as `.png`; rendered once, for its file and for the page."""
        return style.png(self.figure)

    @property
    def pdf(self) -> bytes:
        """The figure as `.pdf`."""
        return style.pdf(self.figure)


def groups(section: Section, info: ReportInfo) -> dict[tuple[str, ...], list[str]]:
    """Return the tasks of each figure of a section, by their group; the rest have one figure."""
    found: dict[tuple[str, ...], list[str]] = {}
    for task in tasks_of(section, info):
        names = [name for name in info.drawn_together if task in info.groups[name].tasks]
        found.setdefault(tuple(names[:1]), []).append(task)
    return found


def title_of(task: str, info: ReportInfo) -> str:
    """Return the short title of a task."""
    return info.short_titles.get(task, task)


def stem(kind: str, experiment: str, section: Section, *more: str) -> str:
    """Return the name of a figure of a section, unique among all figures."""
    key = section.key
    parts = (kind, experiment, key["profile"], key["backbone"], key["data"], f"v{key['version']}")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join((*parts, *more)))


def subtitle(section: Section) -> str:
    """Return the section as a title of one line."""
    key = section.key
    return f"{key['profile']}: {key['backbone']}, {key['data']}"


def grid(count: int) -> tuple[int, int]:
    """Return rows and columns of so many panels, two abreast."""
    return (count + 1) // 2, min(count, 2)


def flat(panels: Any) -> Iterator[Any]:
    """Yield all panels, also if there is only one."""
    import numpy as np

    yield from np.atleast_1d(panels).ravel()
