"""Tables that do not read runs yet: the paper's numbers, and "missing" beside them.

Their experiments are there, scienceqa and coco_caption; none of their runs is published, and runs
that are finished elsewhere are not shown here.
"""

from collections.abc import Mapping

from experiments.report import formats
from experiments.report.paper import paper_table
from experiments.report.rows import Column
from experiments.report.stacked import Block, Table

# What will stand beside which row of the paper; rows that are not here are others' methods.
WANTED: dict[str, Mapping[str, str]] = {
    "scienceqa": {
        "LLaMA-Adapter_T (text only)": "zero-init, text only",
        "LLaMA-Adapter": "zero-init",
    },
    "coco": {"LLaMA-Adapter": "zero-init"},
    "layers": {layers: f"zero-init, {layers} of 32 layers" for layers in ("10", "20", "30", "32")},
    "initialisation": {"Rand-Init attention": "random-init", "Zero-Init attention": "zero-init"},
    "overfitting": {epochs: f"zero-init, {epochs} epochs" for epochs in ("15", "30", "60")},
    "lora_ranks": {},
    "settings": {},
}

NOTHING_READ = (
    "The suite can make the runs for this table, but none is published yet, and finished runs are "
    "not shown in it yet."
)


def paper_only(name: str) -> Table:
    """Return the table of the numbers in `<name>.json`, beside which no run is shown yet."""
    paper = paper_table(name)
    wanted = WANTED[name]
    units = {
        column: next(c.unit for c in paper.cells if c.column == column)
        for column in paper.columns()
    }
    return Table(
        name=name,
        experiment=None,
        paper=name,
        rows=tuple((wanted.get(row), row) for row in paper.rows()),
        blocks=(
            Block(
                tuple(
                    Column("", title, unit, formats.decimals(2), compared=unit in ("%", "points"))
                    for title, unit in units.items()
                )
            ),
        ),
        lines={"layers": "layers", "overfitting": "epochs", "settings": "setting"}.get(
            name, "method"
        ),
        intro=NOTHING_READ if wanted else "",
    )
