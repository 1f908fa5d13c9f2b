from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.data import subsets
from experiments.io.files import read_json
from experiments.squad_roberta.data import load_squad
from experiments.squad_roberta.subsets import FOLDER, development, select
from tests.squad_roberta import tiny
from tests.squad_roberta.world import DENVER, question
from zia_core.errors import ZiaError

NAME = "reduced-2000-short"
LONGEST = 560  # characters of a question and its paragraph
LISTED = read_json(FOLDER / f"{NAME}.json")
SIZES = {"train": 2000, "validation": 200, "dev": 1000}


@pytest.fixture(scope="module")
def real(shared_dir: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIA_DATA", str(shared_dir / "data"))
        yield


@pytest.mark.usefixtures("real")
def test_the_subset_is_what_draw_gives() -> None:
    training = load_squad("1.1", "train", LISTED["train_file"])
    dev = load_squad("1.1", "dev")
    parts = {
        "train": [each for each in training if each.split == "train"],
        "validation": [each for each in training if each.split == "validation"],
        "dev": dev,
    }
    for split, size in SIZES.items():
        short = [each for each in parts[split] if len(each.text) + len(each.context) <= LONGEST]
        drawn = subsets.draw(short, size)
        assert [tuple(entry) for entry in LISTED[split]] == drawn

    found = select("squad-v1.1", NAME)
    for split, size in SIZES.items():
        questions = getattr(found, split)
        assert [each.id for each in questions] == [identity for identity, _ in LISTED[split]]
        assert len({each.id for each in questions}) == size
    contexts = [{each.context for each in part} for part in vars(found).values()]
    assert not contexts[0] & contexts[1]
    assert not contexts[2] & (contexts[0] | contexts[1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for version in ("1.1", "2.0"):
        tiny.write_squad(tmp_path, version)
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_full_is_every_question_once() -> None:
    splits = select("squad-v2.0", "full")
    training = load_squad("2.0", "train")
    assert sorted(each.id for each in splits.train + splits.validation) == sorted(
        each.id for each in training
    )
    assert (len(splits.train), len(splits.validation), len(splits.dev)) == (40, 8, 8)
    assert {each.split for each in splits.validation} == {"validation"}
    assert development("squad-v2.0", "full") == splits.dev


def test_the_file_of_the_subset_is_enough(folder: Path) -> None:
    first = LISTED["train"][0][0]
    with pytest.raises(ZiaError, match=rf"{first}, which the subset {NAME} lists, is missing in"):
        select("squad-v1.1", NAME)
    file = folder / "squad" / "train-v1.1.json"
    file.rename(file.with_name(LISTED["train_file"]))
    with pytest.raises(ZiaError, match=rf"{first}, .* is missing in these train questions"):
        select("squad-v1.1", NAME)


@pytest.mark.usefixtures("folder")
def test_what_does_not_exist_is_answered_with_what_does() -> None:
    with pytest.raises(ZiaError, match=rf"no data named 'half'; there are: full, {NAME}"):
        select("squad-v1.1", "half")
    with pytest.raises(ZiaError, match=f"{NAME} is of squad-v1.1, not squad-v2.0"):
        select("squad-v2.0", NAME)


def test_the_digest_is_of_everything() -> None:
    one = question("a", DENVER, "Denver Broncos")
    others = [
        replace(one, id="b"),
        replace(one, text="Who?"),
        replace(one, context=f"{DENVER} "),
        replace(one, answers=()),
    ]
    assert len({each.digest for each in [one, *others]}) == 5
    assert question("a", DENVER, "Denver Broncos").digest == one.digest
