"""Draw the share of the prompt term, |a(g) A_p V_p| / |A_w V_w|, by layer and head."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.harness.archive import FilePath
from experiments.harness.stored import PROMPT_SHARE
from experiments.io.files import read_json
from experiments.report.experiments import all_scored_sections, tasks_of
from experiments.report.figures import style
from experiments.report.figures.drawn import (
    Drawn,
    stem,
    subtitle,
    title_of,
)
from experiments.report.figures.gates import finished
from experiments.report.figures.heat_map import by_layer, heat_map, height, ticks
from experiments.report.runs import Runs
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a heat map for each section and task, of the first seed that recorded the share."""
    for experiment, info, section in all_scored_sections(runs):
        for task in tasks_of(section, info):
            for run in finished(section, task):
                stored = runs.one(run)
                path = stored.path / PROMPT_SHARE
                if not path.exists():
                    continue
                title = f"{subtitle(section)}\n{title_of(task, info)}, seed {run.seed}"
                try:
                    figure = _figure(title, path)
                except ZiaError as error:
                    runs.give_up(stored.name, error)
                    continue
                yield Drawn(stem("prompt-share", experiment, section, task), figure)
                break


def _figure(title: str, path: FilePath) -> "Figure":
    recorded = read_json(path)
    layers, shares = by_layer(recorded.get("share"), path)
    figure, panel = style.new(height=height(layers))
    heat_map(figure, panel, shares, "prompts / words", cmap="viridis", vmin=0)
    ticks(panel, layers, range(shares.shape[1]))
    panel.set_xlabel("head")
    panel.set_ylabel("layer")
    figure.suptitle(title, fontsize=7.5)
    figure.supxlabel(
        f"norms over {recorded.get('of', 'what was seen')}", fontsize=6.5, parse_math=False
    )
    return figure
