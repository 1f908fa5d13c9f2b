"""The claim that the backbone keeps its knowledge, which older runs did not measure."""

from pathlib import Path

import pytest

from experiments.report import formats
from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.claims.test_claims import NOISE, verdicts
from tests.report.run_folders import lines_of, write_run


def write_losses(root: Path, method: str, loss: float | None, seeds: int = 5) -> None:
    """Runs of a method whose loss on other text is about `loss`, or was not measured."""
    for seed in range(seeds):
        result = {} if loss is None else {"language_loss": loss + NOISE[seed] / 10}
        write_run(root, method, seed, task="instruct", profile="mini", result=result)


@pytest.mark.parametrize(
    ("ours", "verdict"), [(1.0, "holds"), (1.4, "does not hold"), (None, "no runs")]
)
def test_its_loss_on_other_text_against_random_init(
    tmp_path: Path, ours: float | None, verdict: str
) -> None:
    write_losses(tmp_path, "zero-init", ours)
    write_losses(tmp_path, "random-init", 1.2)
    found, evidence = verdicts(tmp_path, "mini")["knowledge-random-init"]
    assert found == verdict
    assert ("needs" in evidence) == (ours is None)
    if ours == 1.0:
        assert "-0.200 nats against random-init" in evidence
        assert evidence.endswith("n=5")


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.75, "holds"), (1.0, "does not hold"), (0.8, "inconclusive")]
)
def test_the_one_run_of_the_frozen_backbone_stands_beside_every_seed(
    tmp_path: Path, ours: float, verdict: str
) -> None:
    write_losses(tmp_path, "zero-init", ours)
    untrained = {"language_loss": 0.7, "tuned_parameters": 0}
    write_run(tmp_path, "frozen", task="instruct", profile="mini", result=untrained)
    found, evidence = verdicts(tmp_path, "mini")["knowledge"]
    tail = ", wanted below 0.1, n=5"
    if verdict == "inconclusive":  # differences of ours: s / sqrt(5) = 0.00707, times 2.776 + 0.941
        tail = (
            ", wanted below 0.1; 5 seeds would have shown 0.026 nats or more from the margin, 0.1"
        )
    assert found == verdict
    assert evidence.endswith(tail)
    assert f"{ours - 0.7:+.3f} nats against frozen, 95 % interval" in evidence


def test_one_run_of_a_method_that_trains_is_one_pair(tmp_path: Path) -> None:
    write_losses(tmp_path, "zero-init", 1.0)
    write_losses(tmp_path, "random-init", 1.2, seeds=1)
    found, evidence = verdicts(tmp_path, "mini")["knowledge-random-init"]
    assert found == "inconclusive"
    assert evidence.endswith("; 1 seed, 5 needed")


def test_four_seeds_that_measured_it_decide_nothing(tmp_path: Path) -> None:
    write_losses(tmp_path, "zero-init", 1.0, seeds=4)
    write_losses(tmp_path, "random-init", 1.2)
    write_run(tmp_path, "zero-init", 4, task="instruct", profile="mini")  # an older one
    found, evidence = verdicts(tmp_path, "mini")["knowledge-random-init"]
    assert found == "inconclusive"
    assert evidence.endswith("; 4 seeds, 5 needed")


def test_the_efficiency_table_has_it_where_a_run_measured_it(tmp_path: Path) -> None:
    write_losses(tmp_path, "frozen", 0.7, seeds=1)
    write_losses(tmp_path, "lora", None, seeds=1)
    write_losses(tmp_path / "older", "lora", None, seeds=1)
    table = markdown(document("efficiency", read_runs([tmp_path])))
    [header] = lines_of(table, "method")[1:]
    place = header.index("loss on other text")
    values = {line[0]: line[place] for line in lines_of(table, "frozen") if len(line) > place}
    assert values == {"frozen": "0.680"}
    assert lines_of(table, "lora")[1][place] == formats.NOTHING
    assert "Loss on other text: after training" in table
    older = markdown(document("efficiency", read_runs([tmp_path / "older"])))
    assert "other text" not in older
