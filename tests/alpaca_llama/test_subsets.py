from pathlib import Path

import pytest

from experiments.alpaca_llama.data import Record, load_alpaca
from experiments.alpaca_llama.subsets import draw, select, subset_names
from experiments.io.files import read_json
from zia_core.errors import ZiaError

LISTED = read_json(Path(__file__).parents[2] / "experiments/alpaca_llama/reduced-640.json")
RECORDS = [Record(i, f"Question {i}?", "", f"Answer {i}.") for i in range(500)]


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> list[Record]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIA_DATA", str(shared_dir / "data"))
        return load_alpaca()


def test_full_is_every_record_once() -> None:
    splits = select(RECORDS, "full")
    together = splits.train + splits.validation + splits.development
    assert sorted(record.id for record in together) == list(range(500))
    assert splits.validation
    assert {record.split for record in splits.validation} == {"validation"}


def test_a_draw_depends_on_the_texts_alone_and_holds_every_smaller_one() -> None:
    large = draw(RECORDS, "train", 50)
    assert draw(RECORDS[::-1], "train", 50) == large
    assert draw(RECORDS, "train", 20) == large[:20]
    assert all(RECORDS[row].split == "train" for row, _ in large)


def test_the_listed_subset_is_what_draw_gives(official: list[Record]) -> None:
    for split, size in (("train", 640), ("validation", 128), ("development", 128)):
        drawn = draw(official, split, size)  # type: ignore[arg-type]
        assert [tuple(entry) for entry in LISTED[split]] == drawn


def test_a_subset_gives_the_listed_records(official: list[Record]) -> None:
    splits = select(official, "reduced-640")
    assert [record.id for record in splits.train] == [row for row, _ in LISTED["train"]]
    assert len(splits.validation) == len(splits.development) == 128
    assert all(record.split == "validation" for record in splits.validation)


def test_other_data_are_refused() -> None:
    first = LISTED["train"][0][0]
    with pytest.raises(ZiaError, match=rf"record {first}, .* reduced-640 lists, is missing"):
        select(RECORDS, "reduced-640")
    with pytest.raises(ZiaError, match=rf"record {first}, .* reduced-640 lists, has another text"):
        select([Record(first, "Other?", "", "")], "reduced-640")


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    assert subset_names() == ["full", "reduced-640", "sample", "mini"]
    with pytest.raises(ZiaError, match=r"no data named 'half'; there are: full, reduced-640"):
        select(RECORDS, "half")
    with pytest.raises(ZiaError, match="there are: full"):
        select(RECORDS, "../reduced-640")
