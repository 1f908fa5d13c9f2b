"""Tables of the paper beside which no run of ours stands: its numbers alone."""

from experiments.report import formats
from experiments.report.paper import paper_table
from experiments.report.rows import Column
from experiments.report.tables.definition import Block, Table

NAMES = ("lora_ranks", "settings")


def paper_only(name: str) -> Table:
    """Return the table of the numbers in `<name>.json`."""
    paper = paper_table(name)
    units = {
        column: next(c.unit for c in paper.cells if c.column == column)
        for column in paper.columns()
    }
    return Table(
        name=name,
        experiment=None,
        paper=name,
        rows=tuple((None, row) for row in paper.rows()),
        blocks=(
            Block(
                tuple(
                    Column("", title, unit, formats.decimals(2), compared=unit in ("%", "points"))
                    for title, unit in units.items()
                )
            ),
        ),
        lines={"settings": "setting"}.get(name, "method"),
    )
