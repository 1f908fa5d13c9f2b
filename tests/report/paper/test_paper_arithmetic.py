"""Arithmetic that the transcribed tables must obey, to find typing errors."""

from statistics import mean

import pytest

from experiments.report import paper
from experiments.report.paper import PaperTable, paper_table
from experiments.vtab_vit.tasks import VTAB_1K

GROUPS = ("Natural", "Specialized", "Structured")


def value(table: PaperTable, row: str, column: str, which: int = 0) -> float:
    found = table.find(row, column)[which].value
    assert found is not None
    return found


def by_source(table: PaperTable, row: str, column: str) -> dict[str, float | None]:
    return {cell.source: cell.value for cell in table.find(row, column)}


@pytest.mark.parametrize("name", paper.names())
def test_every_table_is_well_formed(name: str) -> None:
    table = paper_table(name)
    assert table.title
    assert table.conditions
    assert table.cells
    seen = [(c.row, c.column, c.version, c.source) for c in table.cells]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("group", GROUPS)
def test_vtab_group_means_follow_from_the_tasks(group: str) -> None:
    tasks, groups = paper_table("vtab_tasks"), paper_table("vtab_groups")
    titles = [task.title for task in VTAB_1K if task.group == group.lower()]
    assert len(titles) == {"Natural": 7, "Specialized": 4, "Structured": 8}[group]
    for row in tasks.rows():
        computed = mean(value(tasks, row, title) for title in titles)
        assert computed == pytest.approx(value(tasks, row, f"mean of {group}"), abs=0.06)
        if row != "Bias":  # which Table 6 leaves out
            assert computed == pytest.approx(value(groups, row, group), abs=0.06)
    assert set(groups.rows()) == set(tasks.rows()) - {"Bias"}


def test_zero_init_is_above_vpt_on_16_of_19_tasks() -> None:
    tasks = paper_table("vtab_tasks")
    ahead = [
        value(tasks, "Zero-init.", task.title) > value(tasks, "VPT", task.title) for task in VTAB_1K
    ]
    assert (sum(ahead), len(ahead)) == (16, 19)


def test_vtab_gains_over_vpt() -> None:
    groups = paper_table("vtab_groups")
    gains = [value(groups, "Zero-init.", g) - value(groups, "VPT", g) for g in GROUPS]
    assert gains == pytest.approx([3.26, 2.00, 1.77])


def test_gains_of_the_ablations() -> None:
    layers, start = paper_table("layers"), paper_table("initialisation")
    accuracy = {n: value(layers, n, "validation accuracy") for n in ("10", "20", "30", "32")}
    printed = value(layers, "gain from 10 to 20", "validation accuracy")
    assert accuracy["20"] - accuracy["10"] == pytest.approx(printed)
    printed = value(layers, "gain from 20 to 30", "validation accuracy")
    assert accuracy["30"] - accuracy["20"] == pytest.approx(printed)
    assert accuracy["30"] - accuracy["10"] == pytest.approx(27.90)

    random = value(start, "Rand-Init attention", "validation accuracy")
    for which in (0, 1):  # v3, then v1
        zero = value(start, "Zero-Init attention", "validation accuracy", which)
        gain = value(start, "gain", "validation accuracy", which)
        assert zero - random == pytest.approx(gain)


def test_what_the_paper_contradicts_is_there_twice() -> None:
    zero = by_source(paper_table("initialisation"), "Zero-Init attention", "validation accuracy")
    assert list(zero.values()) == [83.85, 84.04]
    storage = by_source(paper_table("efficiency"), "LLaMA-Adapter", "storage")
    assert list(storage.values()) == [4.7, 4.9]
    batch = by_source(paper_table("settings"), "batch size", "Alpaca-52K")
    assert list(batch.values()) == [64, 32]
    layers = by_source(paper_table("layers"), "32", "tuned parameters")
    assert list(layers.values()) == [1.83, 1.87]
    assert {cell.confidence for cell in paper_table("layers").find("32", "tuned parameters")} == {
        "B",
        "I",
    }


def prompts_and_gates(layers: int, length: int = 10, width: int = 4096, heads: int = 32) -> int:
    return layers * (length * width + heads)


def test_parameters_and_storage_of_the_adapter() -> None:
    parameters = prompts_and_gates(30)
    efficiency = paper_table("efficiency")
    assert parameters == 1_229_760
    assert round(parameters / 1e6, 1) == value(efficiency, "LLaMA-Adapter", "tuned parameters")
    storage = [value(efficiency, "LLaMA-Adapter", "storage", which) for which in (0, 1)]
    assert storage == [round(4 * parameters / 2**20, 1), round(4 * parameters / 1e6, 1)]


def test_the_projection_is_the_same_in_every_depth_but_32() -> None:
    layers = paper_table("layers")
    projection = {
        n: value(layers, n, "tuned parameters") - prompts_and_gates(int(n)) / 1e6
        for n in ("10", "20", "30", "32")
    }
    for depth in ("10", "20", "30"):
        assert projection[depth] == pytest.approx(0.56, abs=0.01)
    assert projection["32"] == pytest.approx(0.52, abs=0.01)
    expected = value(layers, "32", "tuned parameters", 1)
    assert expected == pytest.approx(0.56 + prompts_and_gates(32) / 1e6, abs=0.01)


def test_lora_counts_are_q_and_v_of_32_layers() -> None:
    ranks = paper_table("lora_ranks")
    for rank in (2, 4, 8, 16):
        counted = 32 * 2 * (4096 + 4096) * rank  # layers, q and v, A and B
        printed = value(ranks, f"Alpaca-LoRA, rank {rank}", "tuned parameters")
        assert round(counted / 1e6, 1) == printed
    lora = paper_table("efficiency")
    counted = 32 * 2 * (4096 + 4096) * 8
    assert round(counted / 1e6, 1) == value(lora, "Alpaca-LoRA", "tuned parameters")
    assert round(4 * counted / 1e6, 1) == value(lora, "Alpaca-LoRA", "storage")


def test_scienceqa() -> None:
    table = paper_table("scienceqa")
    text, image = "LLaMA-Adapter_T (text only)", "LLaMA-Adapter"
    assert value(table, image, "Avg") - value(table, text, "Avg") == pytest.approx(6.88)
    subjects, grades = ("NAT", "SOC", "LAN"), ("G1-6", "G7-12")
    assert len(table.rows()) == 19
    for row in table.rows():
        # The average is one of parts of the questions, so it lies between their scores.
        for parts in (subjects, grades):
            scores = [value(table, row, part) for part in parts]
            assert min(scores) <= value(table, row, "Avg") <= max(scores)


def test_the_digitised_curves_end_where_table_6_says() -> None:
    curves = paper_table("loss_curves")
    for row in ("zero-init", "rand-init"):
        losses = [value(curves, row, f"epoch {epoch}") for epoch in range(1, 31)]
        assert losses == sorted(losses, reverse=True)
    assert value(curves, "zero-init", "epoch 30") == value(
        paper_table("overfitting"), "30", "training loss"
    )


def test_f1_is_never_below_exact_match() -> None:
    table = paper_table("squad")
    for row in table.rows():
        for version in ("1.1", "2.0"):
            assert value(table, row, f"{version} EM") <= value(table, row, f"{version} F1")
