"""The style of figures, and their files: equal numbers give equal bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4  # inches, a column of a two-column paper
SMALLEST_TITLE = 4.0  # points; below, matplotlib's fonts do not shrink for ever
RESOLUTION = 220  # dots per inch: 8-point text is readable at 350 pixels
SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.0,
    "legend.handletextpad": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "zia",
    "path.simplify": False,
    "text.parse_math": False,  # names may contain dollars
}


class Look(NamedTuple):
    """How a method is drawn, unlike any other; the colours are Okabe and Ito's."""

    colour: str
    marker: str
    line: str = "-"


LOOKS = {
    "zero-init": Look("#D55E00", "o"),
    "zero-init-40": Look("#D55E00", "d", "--"),
    "zero-init-6-layers": Look("#D55E00", "^", ":"),
    "zero-init-no-tanh": Look("#D55E00", "v", "-."),
    "zero-init-low-rate": Look("#D55E00", "s", "--"),
    "random-init": Look("#CC79A7", "X", "--"),
    "random-init-gate": Look("#CC79A7", "P", ":"),
    "zero-init-queries": Look("#D55E00", "*", "-."),
    "zero-init-text": Look("#E69F00", "o", "--"),
    "random-init-text": Look("#CC79A7", "x", "-."),
    "full": Look("#000000", "s"),
    "lora": Look("#0072B2", "^"),
    "lora-text": Look("#56B4E9", "^", "--"),
    "bias": Look("#E69F00", "d"),
    "adapter": Look("#009E73", "v"),
    "adaption-prompt": Look("#009E73", "h", "--"),
    "sidetune": Look("#56B4E9", "<", "-."),
    "vpt-deep": Look("#56B4E9", "D"),
    "vpt-shallow": Look("#56B4E9", ">", ":"),
    "p-tuning-v2": Look("#56B4E9", "D", "--"),
    "prompt-tuning": Look("#E69F00", ">", ":"),
    "linear": Look("#777777", "p", "--"),
    "head": Look("#777777", "8", "--"),
    "frozen": Look("#777777", "*", ":"),
    "pixel-probe": Look("#BBBBBB", "x", ":"),
}
OTHER = Look("#999999", ".", "-")


def look(method: str) -> Look:
    """Return how a method is drawn in every figure."""
    return LOOKS.get(method, OTHER)


def ordered(methods: set[str]) -> list[str]:
    """Return methods in the order of legends."""
    known = list(LOOKS)
    return sorted(methods, key=lambda m: (known.index(m) if m in known else len(known), m))


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def new(width: float = COLUMN, height: float = 2.4, **panels: Any) -> "tuple[Figure, Any]":
    """Return a figure of this size in inches, and its panels, without global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**panels)


def log_losses(panel: "Axes") -> None:
    """Make the y axis logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    panel.yaxis.set_major_locator(LogLocator(subs=steps))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def log_counts(panel: "Axes") -> None:
    """Make the x axis logarithmic, with counts as 500, 20k, 1M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xscale("log")
    low, high = panel.get_xlim()
    steps = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    panel.xaxis.set_major_locator(LogLocator(subs=steps))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda count, _: short_count(count)))
    panel.xaxis.set_minor_formatter(NullFormatter())


def short_count(count: float) -> str:
    """Return a count as 500, 20k or 1.5M."""
    size, unit = next(
        ((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= s), (1, "")
    )
    return f"{count / size:g}{unit}"


def legend_below(figure: "Figure", panel: "Axes", columns: int = 3) -> None:
    """Put the legend of a panel under the figure, in fewer columns if these are too wide."""
    handles, labels = panel.get_legend_handles_labels()
    for fewer in range(columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=fewer)
        if fewer == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _fit_titles(figure: "Figure") -> None:
    """Make titles smaller that are wider than their share of the figure."""
    shares = [(text, 0.97) for text in figure.texts]
    for panel in figure.axes:
        spec = panel.get_subplotspec()
        if spec is not None:  # a panel is centred beside its labels, so it has less
            shares.append((panel.title, 0.8 / spec.get_gridspec().ncols))
    figure.set_dpi(RESOLUTION)
    for text, share in shares:
        # Letters are of whole dots, so the width does not follow the size exactly.
        size = float(text.get_fontsize())
        while size > SMALLEST_TITLE and text.get_window_extent().width > share * figure.bbox.width:
            size *= 0.97
            text.set_fontsize(size)


def png(figure: "Figure") -> bytes:
    """Return the figure as `.png`, without dates and versions."""
    return _saved(figure, "png", {"Software": None})


def pdf(figure: "Figure") -> bytes:
    """Return the figure as `.pdf`, without dates and versions."""
    return _saved(figure, "pdf", dict.fromkeys(("Creator", "Producer", "CreationDate")))


def _saved(figure: "Figure", kind: str, metadata: Any) -> bytes:
    buffer = BytesIO()
    with styled():
        _fit_titles(figure)
        figure.savefig(buffer, format=kind, dpi=RESOLUTION, metadata=metadata)
    return buffer.getvalue()
