import copy
import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from experiments.squad_roberta.data import Answer, Question, fingerprint, load_squad
from tests.squad_roberta.world import DENVER, PARIS, V1, V2, official, qa, question, write
from zia_core.errors import ZiaError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["dev-v1.1.json", "dev-v1.1.json.gz"])
def test_questions_are_read_in_order_plain_or_packed(folder: Path, name: str) -> None:
    content = json.dumps(V1, ensure_ascii=False).encode()
    write(folder, name, gzip.compress(content) if name.endswith("gz") else content)
    assert load_squad("1.1", "dev") == [
        Question("a", " Where is a?", DENVER, (Answer("Denver Broncos", 4),)),
        Question("b", " Where is b?", DENVER, (Answer("€24", 41),)),
        Question("c", " Where is c?", PARIS, (Answer("Élise", 0),)),
    ]


def test_version_2_has_questions_without_answers(folder: Path) -> None:
    write(folder, "train-v2.0.json", V2)
    answerable, unanswerable = load_squad("2.0", "train")
    assert [answer.text for answer in answerable.answers] == ["Denver Broncos"]
    assert (unanswerable.id, unanswerable.answers) == ("d", ())


def changed(root: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """A copy of the file with one value changed (or, to ..., removed) below its paragraphs."""
    root = copy.deepcopy(root)
    value = root["data"][0]["paragraphs"]
    for key in path[:-1]:
        value = value[key]
    if to is ...:
        del value[path[-1]]
    else:
        value[path[-1]] = to
    return root


QA = (0, "qas", 1)
ANSWER = (*QA, "answers", 0)
HERE = "data[0].paragraphs[0].qas[1] (id b)"
GOOD = gzip.compress(json.dumps(V1).encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            changed(V1, *ANSWER, "answer_start", to=40),
            f"{HERE}: the context does not have answer 0",
        ),
        (changed(V1, *ANSWER, "answer_start", to=41 - len(DENVER)), "at its answer_start -3"),
        (changed(V1, *ANSWER, "answer_start", to=999), "at its answer_start 999"),
        (changed(V1, *ANSWER, "answer_start", to="41"), "at its answer_start '41'"),
        (changed(V1, *ANSWER, "answer_start", to=...), "at its answer_start None"),
        (changed(V1, *ANSWER, "text", to=" "), f"{HERE}: the text of answer 0 is empty"),
        (changed(V1, *ANSWER, "text", to=7), f"{HERE}, answer 0: 'text' must be a text"),
        (changed(V1, *ANSWER, to="€24"), f"{HERE}, answer 0 must be a JSON object, not a text"),
        (
            changed(V1, *QA, "answers", to=None),
            f"{HERE} must be a JSON object with a list 'answers'",
        ),
        (changed(V1, *QA, "answers", to=[]), f"{HERE} has no answer, which only SQuAD 2.0 allows"),
        (changed(V1, *QA, "is_impossible", to=False), f"{HERE} has a field 'is_impossible'"),
        (changed(V1, *QA, "question", to=...), f"{HERE} has no field 'question'"),
        (changed(V1, *QA, "id", to=...), "data[0].paragraphs[0].qas[1] has no field 'id'"),
        (changed(V1, *QA, "id", to="a"), "(id a) has the id of data[0].paragraphs[0].qas[0]"),
        (changed(V1, 1, "qas", 0, "id", to="a"), "data[0].paragraphs[1].qas[0] (id a) has the id"),
        (changed(V1, *QA, "question", to="\ud800"), f"{HERE}: 'question' is not valid Unicode"),
        (changed(V1, 1, "context", to=" \n"), "paragraphs[1].qas[0] (id c): the context is empty"),
        (changed(V1, 1, "context", to=...), "(id c) has no field 'context'"),
        (changed(V1, 1, to=None), "data[0].paragraphs[1] must be a JSON object with a list 'qas'"),
        (V2, "is a file of SQuAD 2.0 (its 'version'), not 1.1: give it as version 2.0"),
        (
            V2 | {"version": None},
            "qas[0] (id a) has a field 'is_impossible', so it is of SQuAD 2.0",
        ),
        ({"data": []}, "holds no question"),
        ([V1], "must be an object with a list 'data'"),
        (b'{"data": \xe9}', "is not UTF-8 text (byte 9)"),
        (b'{\n"data": }', "is not valid JSON (line 2, column 9"),
        (b"", "is empty"),
    ],
)
def test_a_bad_file_is_one_sentence_with_file_and_record(
    folder: Path, content: Any, sentence: str
) -> None:
    path = write(folder, "dev-v1.1.json", content)
    with pytest.raises(ZiaError) as caught:
        load_squad("1.1", "dev")
    message = str(caught.value)
    assert sentence in message
    assert message.startswith(str(path))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (V1, "is a file of SQuAD 1.1 (its 'version'), not 2.0: give it as version 1.1"),
        (V1 | {"version": "?"}, "paragraphs[0].qas[0] (id a) has no field 'is_impossible'"),
        (
            changed(V2, 1, "qas", 0, "is_impossible", to=False),
            "(id d) has 'is_impossible' false but 0 answers",
        ),
        (
            changed(V2, 0, "qas", 0, "is_impossible", to=True),
            "(id a) has 'is_impossible' true but 1 answers",
        ),
    ],
)
def test_version_2_says_of_every_question_whether_it_has_an_answer(
    folder: Path, content: Any, sentence: str
) -> None:
    path = write(folder, "dev-v2.0.json", content)
    with pytest.raises(ZiaError) as caught:
        load_squad("2.0", "dev")
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cut_gzip_file_is_named(folder: Path) -> None:
    path = write(folder, "dev-v1.1.json.gz", GOOD[:-20])
    with pytest.raises(ZiaError, match="is not a complete gzip file") as caught:
        load_squad("1.1", "dev")
    assert str(path) in str(caught.value)


def test_another_file_of_the_folder_is_read_by_name_and_never_fetched(folder: Path) -> None:
    write(folder, "mine.json", V1)
    assert len(load_squad("1.1", "train", "mine.json")) == 3
    with pytest.raises(ZiaError, match=r"squad/other\.json\[\.gz\] does not exist"):
        load_squad("1.1", "train", "other.json")


HUB_ROW = {
    "id": "a",
    "title": "T",
    "context": DENVER,
    "question": "Who?",
    "answers": {"text": ["Denver Broncos"], "answer_start": [4]},
}
HUB_EMPTY = HUB_ROW | {"id": "d", "answers": {"text": [], "answer_start": []}}


@pytest.mark.parametrize(
    ("version", "name", "revision"),
    [
        ("1.1", "rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
        ("2.0", "rajpurkar/squad_v2", "3ffb306f725f7d2ce8394bc1873b24868140c412"),
    ],
)
def test_without_a_file_the_hub_s_pinned_revision_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, version: Any, name: str, revision: str
) -> None:
    asked = []
    rows = [HUB_ROW] if version == "1.1" else [HUB_ROW, HUB_EMPTY]

    def load_dataset(*arguments: str, **options: str) -> datasets.Dataset:
        asked.append((arguments, options))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    questions = load_squad(version, "dev")
    assert questions[0] == Question("a", "Who?", DENVER, (Answer("Denver Broncos", 4),))
    assert [each.answers for each in questions[1:]] == [()] * (len(rows) - 1)
    assert asked == [((name,), {"revision": revision, "split": "validation"})]


@pytest.mark.parametrize("has_folder", [False, True])
def test_neither_data_nor_network_names_both(tmp_path: Path, has_folder: bool) -> None:
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    if has_folder:
        settings["ZIA_DATA"] = str(tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "ZIA_DATA"} | settings
    code = (
        "from experiments.squad_roberta.data import load_squad\n"
        "from zia_core.errors import ZiaError\n"
        "try: load_squad('2.0', 'train')\n"
        "except ZiaError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "the hub's rajpurkar/squad_v2 cannot be loaded" in done.stdout
    assert "put train-v2.0.json into the folder squad/ of $ZIA_DATA" in done.stdout
    where = f"{tmp_path}/squad/train-v2.0.json[.gz] does not exist" if has_folder else "not set"
    assert where in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_split_follows_from_the_paragraph_alone() -> None:
    questions = [question(str(i), f"Paragraph {i}.", "Paragraph") for i in range(2000)]
    held_out = [int(each.id) for each in questions if each.split == "validation"]
    assert 70 <= len(held_out) <= 130
    # Pinned: a change of the rule would move questions from one part to another.
    assert held_out[:5] == [30, 87, 104, 121, 150]
    for each in questions[:200]:
        assert replace(each, id="x", text="Other?", answers=()).split == each.split


def test_the_fingerprint_notices_every_field_and_the_order() -> None:
    one, two = question("a", DENVER, "Denver"), question("b", PARIS, "Paris", "May")
    others = [
        [two, one],
        [one],
        [replace(one, id="x"), two],
        [replace(one, text="x"), two],
        [replace(one, context=DENVER + " "), two],
        [one, replace(two, answers=two.answers[:1])],
        [one, replace(two, answers=(Answer("Paris", 19), two.answers[1]))],
    ]
    assert len({fingerprint(each) for each in [[one, two], *others]}) == 8
    assert fingerprint([one, two]) == fingerprint((one, two))


def test_the_official_files_are_read_whole(
    shared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(shared_dir / "data"))
    dev, dev_2 = load_squad("1.1", "dev"), load_squad("2.0", "dev")
    assert (len(dev), len(dev_2)) == (10_570, 11_873)
    assert sum(not each.answers for each in dev_2) == 5_945
    train = load_squad("1.1", "train", "train-v1.1-du44.json")
    assert len(train) == 11_877
    assert not {each.context for each in train} & {each.context for each in dev}
    parts = [{q.context for q in train if q.split == split} for split in ("train", "validation")]
    assert not parts[0] & parts[1]
    with pytest.raises(ZiaError, match=r"train-v1\.1-du44\.json\.gz is a file of SQuAD 1\.1"):
        load_squad("2.0", "train", "train-v1.1-du44.json")


def test_a_record_without_problems_beside_bad_ones_is_not_blamed(folder: Path) -> None:
    bad = official("1.1", (DENVER, [qa("a", "Denver", 4), qa("b", "Denver", 5)]))
    write(folder, "dev-v1.1.json", bad)
    with pytest.raises(ZiaError, match=r"qas\[1\] \(id b\)"):
        load_squad("1.1", "dev")
