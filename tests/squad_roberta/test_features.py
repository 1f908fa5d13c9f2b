import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments.squad_roberta.data import Answer, Question
from experiments.squad_roberta.features import BATCH, WindowDataset, features
from experiments.squad_roberta.windows import WindowSettings
from tests.squad_roberta.tokenizers_by_hand import bert, roberta
from tests.squad_roberta.world import DENVER, PARIS, question
from zia_core.errors import ZiaError

SETTINGS = WindowSettings(max_length=64, stride=16, max_question=16)
QUESTIONS = [
    question("a", f"{DENVER} {PARIS}", "Denver Broncos", "Broncos"),
    question("b", PARIS),
    question("c", PARIS, "Paris"),
    question("d", "Short text.", "text"),
]


def made(
    folder: Path,
    questions: list[Question] = QUESTIONS,
    tokenizer: PreTrainedTokenizerFast | None = None,
    settings: WindowSettings = SETTINGS,
) -> WindowDataset:
    return features(questions, tokenizer or bert(), settings, folder)


def test_a_batch_is_what_a_question_answering_model_takes(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    order = [0, len(dataset) - 1]
    batch = dataset.batch(order)
    assert list(batch) == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "start_positions",
        "end_positions",
    ]
    assert {value.dtype for value in batch.values()} == {torch.int64}
    for row, i in enumerate(order):
        window, length = dataset.window(i), dataset.length(i)
        assert batch["input_ids"][row].tolist()[:length] == window.ids
        assert batch["attention_mask"][row].sum() == length == len(window.ids)
        types = batch["token_type_ids"][row].tolist()
        context = [window.context_at, length]
        assert types == [int(context[0] <= at < context[1]) for at in range(len(types))]
        positions = batch["start_positions"][row].item(), batch["end_positions"][row].item()
        assert positions == window.label
        assert dataset.labels(i) == 2
    assert batch["input_ids"].shape == (2, 64)
    assert batch["input_ids"][1, -1] == bert().pad_token_id
    answer = batch["input_ids"][1][batch["start_positions"][1] : batch["end_positions"][1] + 1]
    assert bert().decode(answer) == "text"


def test_roberta_has_no_token_types_and_its_own_padding(tmp_path: Path) -> None:
    dataset = made(tmp_path, tokenizer=roberta())
    batch = dataset.batch([0, len(dataset) - 1])
    assert "token_type_ids" not in batch
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert set(batch["input_ids"][padding].tolist()) == {roberta().pad_token_id}


def test_windows_know_their_question(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    ranges = [dataset.windows_of(row) for row in range(len(QUESTIONS))]
    assert [i for each in ranges for i in each] == list(range(len(dataset)))
    assert len(ranges[0]) > 1
    for each, windows in zip(QUESTIONS, ranges, strict=True):
        assert {dataset.record_id(i) for i in windows} == {each.id}
        labelled = [dataset.window(i).label != (0, 0) for i in windows]
        assert any(labelled) == bool(each.answers)


def test_the_first_answer_is_the_label_without_the_space_around_it(tmp_path: Path) -> None:
    start = DENVER.index(" Panthers")
    answers = Answer(" Panthers ", start), Answer("Broncos", DENVER.index("Broncos"))
    spaced = [Question("a", "Where is a?", DENVER, answers)]
    plain = [question("a", DENVER, "Panthers")]
    labels = [made(tmp_path, each).window(0).label for each in (spaced, plain)]
    assert labels[0] == labels[1] != (0, 0)


def test_an_answer_without_tokens_counts_no_labels(tmp_path: Path) -> None:
    dataset = made(tmp_path, [question("x", "one \x01 two", "\x01")])
    assert dataset.labels(0) == 0
    assert dataset.batch([0])["start_positions"].tolist() == [-100]


def test_more_questions_than_are_tokenised_together_stay_in_order(tmp_path: Path) -> None:
    texts = [f"Number {i} is {i}." for i in range(2 * BATCH + 5)]
    many = [question(str(i), text, str(i)) for i, text in enumerate(texts)]
    dataset = made(tmp_path, many)
    assert [dataset.record_id(i) for i in range(len(dataset))] == [each.id for each in many]
    for row in (0, BATCH - 1, BATCH, 2 * BATCH + 4):
        [i] = dataset.windows_of(row)
        window = dataset.window(i)
        first, last = (at - window.context_at for at in window.label)
        assert texts[row][window.starts[first] : window.ends[last]] == str(row)


def test_the_cache_is_used_for_the_same_windows_only(tmp_path: Path) -> None:
    def stored() -> int:
        return len(list(tmp_path.iterdir()))

    first, again = made(tmp_path).batch([0, 1]), made(tmp_path).batch([0, 1])
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert stored() == 1
    made(tmp_path, QUESTIONS[:3])
    made(tmp_path, settings=replace(SETTINGS, stride=15))
    made(tmp_path, settings=replace(SETTINGS, max_question=15))
    made(tmp_path, settings=replace(SETTINGS, max_length=63))
    made(tmp_path, tokenizer=roberta())
    assert stored() == 6


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    def peak(batches: int) -> int:
        contexts = [f"{DENVER} {i}" for i in range(batches * BATCH)]
        questions = [question(str(i), context, "Denver") for i, context in enumerate(contexts)]
        tracemalloc.start()
        made(tmp_path, questions)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)  # imports
    assert peak(8) < 1.5 * peak(2)


def test_settings_without_room_name_the_question(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="question a: max_length 28 leaves 16 tokens"):
        made(tmp_path, settings=replace(SETTINGS, max_length=28))
