"""What `zia reproduce` says of the published runs in the end."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.harness import archive
from experiments.harness.archive import file_name
from experiments.report.claims.summary import summary
from tests.report.run_folders import write_squad


def publish(root: Path, published: Path, experiment: str, profile: str) -> None:
    published.mkdir(exist_ok=True)
    folders = sorted((root / experiment).iterdir())
    contents = {
        folder.name: {f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders
    }
    archive.write(published / file_name(experiment, profile), experiment, profile, contents)


def write(root: Path, scores: dict[str, Sequence[float]], profile: str) -> None:
    for method, of_method in scores.items():
        for seed, score in enumerate(of_method):
            write_squad(root, method, "squad-v1.1", seed, score, profile=profile)


def test_decided_claims_have_a_line_each(tmp_path: Path) -> None:
    runs, published = tmp_path / "runs", tmp_path / "published"
    assert list(summary(published, "mini")) == []
    scores = {"zero-init": [50, 51, 50, 51, 50], "p-tuning-v2": [50, 50, 51, 51, 50]}
    write(runs, scores | {"full": [40, 40, 40, 40, 41]}, "mini")
    publish(runs, published, "squad_roberta", "mini")
    assert list(summary(published, "mini")) == [
        "mini decides 1 of 24 claims: 0 hold, 0 do not hold, 1 level",
        "  level          Beats random init: SQuAD",
    ]
    assert list(summary(published, "small")) == []


def test_other_profiles_are_not_read(tmp_path: Path) -> None:
    published = tmp_path / "published"
    for profile, ahead in (("mini", 3), ("small", -3)):
        runs = tmp_path / profile
        scores = {"zero-init": [50 + ahead] * 5, "p-tuning-v2": [50] * 5}
        write(runs, scores, profile)
        publish(runs, published, "squad_roberta", profile)
    (published / file_name("squad_roberta", "small")).write_bytes(b"damaged")
    found = list(summary(published, "mini"))
    assert found[1:] == ["  holds          Beats random init: SQuAD"]
    assert max(map(len, found)) <= 80


@pytest.mark.parametrize("profile", ["mini", "small"])
def test_our_own_runs_decide_something_in_80_columns(repository: Path, profile: str) -> None:
    found = list(summary(repository / "results/published", profile))
    assert len(found) > 2
    assert max(map(len, found)) <= 80


def test_a_damaged_archive_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / file_name("squad_roberta", "mini")).write_bytes(b"damaged")
    assert list(summary(tmp_path, "mini")) == []
