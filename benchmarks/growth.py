"""Plot how costs grow, from every table "as it grows: ..." of the results.

    python -m benchmarks.growth                    # benchmarks/results to growth-cpu.png, -cuda.png
    python -m benchmarks.growth FOLDER --out OUT   # your own results

Such a table has a row for each value of `x`, titled "as it grows: x" or "as it grows: x (of a
curve)". Axes are logarithmic; a line parallel to the dotted one is proportional.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import BENCHMARKS
from benchmarks.show import MIB
from experiments.io.files import check_output, read_json, write_atomic
from experiments.io.output import tell
from zia_core.arguments import named_path
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
DEVICES = ("cpu", "cuda")
GROWS = "as it grows: "
# Axis label and divisor, by the suffix of a column's name. Other columns are not plotted.
DRAWN = {
    ", ms": ("ms a step", 1),
    ", kept bytes": ("MiB kept for backward", MIB),
    "CPU seconds": ("CPU seconds", 1),
    "claims a CPU second": ("claims / CPU second", 1),
}
COLUMNS = 5  # panels side by side
GUIDE: Any = {"color": "0.6", "linestyle": ":", "linewidth": 1}
FLAT = 0.2  # if no curve grows faster than x to this power, there is nothing to compare


class Curve(NamedTuple):
    """A line of the plot, with points (x, y) in the order of x."""

    name: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]

    @property
    def exponent(self) -> float:
        """The power of x with which y grows between the last two points."""
        (x, y), (x_last, y_last) = self.points[-2:]
        return math.log(y_last / y) / math.log(x_last / x)


def curves(result: Mapping[str, Any]) -> Iterator[Curve]:
    """All curves in the JSON of a benchmark."""
    for title, part in result["parts"].items():
        if not title.startswith(GROWS):
            continue
        x, _, of = title.removeprefix(GROWS).removesuffix(")").partition(" (")
        rows = sorted((float(value), figures) for value, figures in part["figures"].items())
        for column in rows[0][1]:
            for end, (y, divisor) in DRAWN.items():
                if column.endswith(end) and len(rows) > 1:
                    name = of or column.removesuffix(end) or y
                    points = tuple((value, figures[column] / divisor) for value, figures in rows)
                    yield Curve(name, x, y, points)


def draw(found: Sequence[Curve]) -> bytes:
    """The plot as PNG, with a panel for each pair of axes and a colour for each name."""
    from matplotlib.lines import Line2D

    from experiments.report.figures import style

    panels: dict[tuple[str, str], list[Curve]] = {}
    order = [y for y, _ in DRAWN.values()]
    for curve in sorted(found, key=lambda curve: order.index(curve.y)):
        panels.setdefault((curve.y, curve.x), []).append(curve)
    names = list(dict.fromkeys(curve.name for curve in found))
    looks = dict(zip(names, _looks(), strict=False))
    across = min(COLUMNS, len(panels))
    down = math.ceil(len(panels) / across)
    with style.styled():
        size = 1.9 * across, 1.75 * down + 0.5
        figure, axes = style.new(*size, nrows=down, ncols=across, squeeze=False)
        for panel, ((y, x), together) in zip(axes.flat, panels.items(), strict=False):
            for curve in together:
                colour, marker = looks[curve.name]
                panel.plot(*zip(*curve.points, strict=True), color=colour, marker=marker, ms=3)
            _scale(panel, together)
            panel.set_xlabel(x)
            panel.set_ylabel(y)
        for panel in axes.flat[len(panels) :]:
            panel.set_axis_off()
        handles = [
            Line2D([], [], color=colour, marker=marker, ms=3, label=name)
            for name, (colour, marker) in looks.items()
        ]
        handles.append(Line2D([], [], **GUIDE, label="proportional"))
        figure.legend(handles=handles, loc="outside lower center", ncols=across)
        return style.png(figure)


def _looks() -> Iterator[tuple[str, str]]:
    """Okabe and Ito's colours, then the same with other markers."""
    colours = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
    for marker in "os^vDP":
        yield from ((colour, marker) for colour in colours)


def _scale(panel: "Axes", together: Sequence[Curve]) -> None:
    """Set logarithmic axes, and draw a dotted line proportional to x up to the highest point."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    from experiments.report.figures.style import short_count

    values = sorted({x for curve in together for x, _ in curve.points})
    if max(curve.exponent for curve in together) > FLAT:
        top = max(curve.points[-1][1] for curve in together)
        panel.plot([values[0], values[-1]], [top * values[0] / values[-1], top], **GUIDE)
    costs = [y for curve in together for _, y in curve.points]
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(min(costs) / 2, max(costs) * 2.5)  # wide enough for two round tick labels
    panel.set_xticks(values, [short_count(value) for value in values])
    panel.xaxis.set_minor_locator(NullLocator())
    few = max(costs) < 50 * min(costs)
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    panel.yaxis.set_minor_formatter(NullFormatter())


def main() -> None:
    """Draw one plot per device, and print the final exponent of each curve."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=named_path, nargs="?", default=RESULTS)
    parser.add_argument(
        "--out", type=named_path, help="folder of the pictures; that of the results"
    )
    given = parser.parse_args()
    try:
        _write(given.folder, given.out or given.folder)
    except ZiaError as error:
        sys.exit(f"growth: {error}")


def _write(folder: Path, out: Path) -> None:
    drawn = False
    for device in DEVICES:
        files = [path for name in BENCHMARKS if (path := folder / f"{name}-{device}.json").exists()]
        found = [curve for path in files for curve in _curves(path)]
        if not found:
            continue
        check_output(out)
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / f"growth-{device}.png", draw(found))
        tell(out / f"growth-{device}.png")
        for curve in found:
            tell(f"{curve.y} of {curve.name}: as {curve.x} to the power of {curve.exponent:.2f}")
        drawn = True
    if not drawn:
        raise ZiaError(f'{folder} has no result with a table "{GROWS}...": zia bench makes them')


def _curves(path: Path) -> list[Curve]:
    try:
        return list(curves(read_json(path)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ZiaError(
            f"{path} is damaged or of another version ({error}): measure again"
        ) from error


if __name__ == "__main__":
    main()
