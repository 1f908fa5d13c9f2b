from pathlib import Path

import pytest

from experiments.report import paper
from experiments.report.paper import paper_table
from zia_core.errors import ZiaError


def test_the_efficiency_table_is_the_paper_s() -> None:
    table = paper_table("efficiency")
    assert table.rows() == ["Alpaca", "Alpaca-LoRA", "LLaMA-Adapter"]
    columns = ("tuned parameters", "storage", "training time")
    printed = [[table.find(row, c)[0].printed for c in columns] for row in table.rows()]
    assert printed == [
        ["7B", "13G", "3 hours"],
        ["4.2M", "16.8M", "1.5 hours"],
        ["1.2M", "4.7M", "1 hour"],
    ]
    assert [c.printed for c in table.find("LLaMA-Adapter", "storage")] == ["4.7M", "4.9M"]
    assert [c.printed for c in table.find("Alpaca-LoRA", "training time")] == ["1.5 hours", "-"]
    assert [c.confidence for c in table.find("Alpaca-LoRA", "training time")] == ["B", "A"]


CELL = (
    '{"row": "r", "column": "c", "value": 1, "unit": "M", "version": "v1", '
    '"source": "s", "confidence": "A"}'
)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (CELL.replace("1,", '"1",'), "cell 1: value must be a finite number or none"),
        (CELL.replace('"A"', '"E"'), "cell 1: confidence must be one of A, B, B-, C, I, D"),
        (CELL.replace('"unit": "M", ', ""), "cell 1 lacks unit"),
        ("7", "cell 1 must be a JSON object"),
    ],
)
def test_a_cell_that_is_not_well_formed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, sentence: str
) -> None:
    monkeypatch.setattr(paper, "__file__", str(tmp_path / "__init__.py"))
    content = f'{{"title": "t", "conditions": "c", "cells": [{CELL}, {cell}]}}'
    (tmp_path / "table.json").write_text(content)
    with pytest.raises(ZiaError, match=sentence):
        paper_table("table")
