"""The format to the character, the cutting of contexts, labels, and reading answers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.language.examples import IGNORED, Examples
from experiments.metrics.scienceqa.scorer import parse_answer
from experiments.scienceqa.data import Problem
from experiments.scienceqa.evaluate import likeliest
from experiments.scienceqa.prompts import (
    Output,
    encode,
    explanation,
    letter_tokens,
    prompt_text,
    response_text,
    typed_question,
)
from tests.language.tokenizers_by_hand import byte_level, sentencepiece
from zia_core import ZiaError

PROBLEM = Problem(
    "7", "Which is a  mammal?", ("trout", "otter", "newt"), 1, "Everything lives in  water. " * 9,
    Path("image.png"), "train", {},
)  # fmt: skip


def test_qcm_a_to_the_character() -> None:
    assert prompt_text(PROBLEM, "They swim.") == (
        "Question: Which is a mammal?\nContext: They swim.\n"
        "Options: (A) trout (B) otter (C) newt\nAnswer:"
    )
    assert "\nContext: N/A\n" in prompt_text(PROBLEM, "")
    assert response_text(1) == " The answer is B."
    for answer in range(3):
        assert parse_answer(response_text(answer), 3) == answer


def test_qcm_ea_gives_the_solution_first() -> None:
    told = response_text(1, "Otters  have fur.")
    assert told == " Otters have fur. The answer is B."
    assert parse_answer(told, 3) == 1
    assert explanation(told) == " Otters have fur."
    assert explanation(response_text(1)) == ""
    assert explanation("Otters do not end") == " Otters do not end"
    known = replace(PROBLEM, record={"solution": "Otters have fur."})
    (example,), _ = encode([known], byte_level(), "hint", 1000, output="EA")
    assert byte_level().decode(example.response[:-1]) == told
    assert encode([known], byte_level(), "hint", 1000)[0][0].response != example.response
    with pytest.raises(ZiaError, match="'7' has no 'solution': add it, or set output=A"):
        encode([PROBLEM], byte_level(), "hint", 1000, output="EA")


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_level(None), sentencepiece()])
def test_tokens_are_those_of_the_text(tokenizer: object) -> None:
    examples, cut = encode([PROBLEM], tokenizer, "hint", 1000)  # type: ignore[arg-type]
    decoded = tokenizer.decode(examples[0].prompt + examples[0].response[:-1])  # type: ignore[attr-defined]
    text = prompt_text(PROBLEM, str(PROBLEM.hint)) + response_text(1)
    assert decoded.replace("<s>", "").strip() == text
    assert examples[0].response[-1] == tokenizer.eos_token_id  # type: ignore[attr-defined]
    assert cut == 0


@pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece()])
def test_only_the_context_is_cut(tokenizer: object) -> None:
    whole, _ = encode([PROBLEM], tokenizer, "hint", 1000)  # type: ignore[arg-type]
    length = len(whole[0].prompt) + len(whole[0].response)
    shortest, _ = encode([replace(PROBLEM, hint="")], tokenizer, "hint", 1000)  # type: ignore[arg-type]
    least = len(shortest[0].prompt) + len(shortest[0].response)
    for limit in (length, length - 1, length - 40, least):
        examples, cut = encode([PROBLEM, PROBLEM], tokenizer, "hint", limit)  # type: ignore[arg-type]
        text = tokenizer.decode(examples[0].prompt)  # type: ignore[attr-defined]
        assert len(examples[0].prompt) + len(examples[0].response) <= limit
        # Nothing more would fit: a word and its space are at most seven tokens here.
        assert len(examples[0].prompt) + len(examples[0].response) >= limit - 7
        assert "Question: Which is a mammal?" in text
        assert text.endswith("Options: (A) trout (B) otter (C) newt\nAnswer:")
        assert cut == (0 if limit == length else 2)
    assert "Context: N/A\n" in text
    with pytest.raises(ZiaError, match="problem '7': question and options alone take"):
        encode([PROBLEM], tokenizer, "hint", least - 1)  # type: ignore[arg-type]


def test_a_typed_question() -> None:
    text = typed_question("Which is a mammal?| trout|otter ", Path("a.png"))
    assert text == prompt_text(replace(PROBLEM, choices=("trout", "otter")), "")
    for wrong in ("Which?", "|a|b", "Which?|a||b", "Which?|a|b|c|d|e|f"):
        with pytest.raises(ZiaError, match="is not a question with 1 to 5 options"):
            typed_question(wrong, Path("a.png"))


def test_contexts_are_a_choice() -> None:
    tokenizer = byte_level()
    none, _ = encode([replace(PROBLEM, hint=None)], tokenizer, "none", 1000)
    assert "Context: N/A\n" in tokenizer.decode(none[0].prompt)
    with pytest.raises(ZiaError, match="problem '7' has no field 'hint'"):
        encode([replace(PROBLEM, hint=None)], tokenizer, "hint", 1000)


def test_labels_are_the_response_alone() -> None:
    tokenizer = byte_level()
    short = replace(PROBLEM, hint="", id="8")
    examples, _ = encode([PROBLEM, short], tokenizer, "hint", 1000, lambda p: None)
    batch = Examples(examples).batch([0, 1])
    assert set(batch) == {"input_ids", "attention_mask", "labels", "label_index"}
    for row, example in enumerate(examples):
        labels = batch["labels"][row]
        assert labels[labels != IGNORED].tolist() == example.response
        start = len(example.prompt)
        assert (labels[:start] == IGNORED).all()
        whole = example.prompt + example.response
        assert batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist() == whole


@pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece()])
def test_letters_behind_their_prefix(tokenizer: object) -> None:
    before, letters = letter_tokens(tokenizer)  # type: ignore[arg-type]
    assert len(set(letters)) == 5
    examples, _ = encode([PROBLEM], tokenizer, "hint", 1000)  # type: ignore[arg-type]
    assert examples[0].response[: len(before) + 1] == [*before, letters[1]]


@pytest.mark.parametrize("solution", ["", "Water is wet."])
def test_the_likeliest_letter_of_the_options(solution: str) -> None:
    """Against whole forward passes, one for each option; behind a solution too."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    problems = [replace(PROBLEM, id=str(i), hint="water " * i, choices=("x",) * n)
                for i, n in enumerate((1, 2, 3, 4, 5, 5))]  # fmt: skip
    examples, _ = encode([replace(p, answer=0) for p in problems], tokenizer, "hint", 1000)
    options = [len(problem.choices) for problem in problems]
    written = tokenizer.encode(f" {solution}") if solution else []
    said = {problem.id: written for problem in problems}
    letters = letter_tokens(tokenizer)
    found = dict(likeliest(model, Examples(examples), options, letters, 400, said))
    for place, problem in enumerate(problems):
        scores = []
        for answer in range(len(problem.choices)):
            asked = replace(problem, answer=answer, record={"solution": solution})
            output: Output = "EA" if solution else "A"
            (each,), _ = encode([asked], tokenizer, "hint", 1000, output=output)
            ids = torch.tensor([each.prompt + each.response])
            with torch.no_grad():
                log_p = model(ids).logits.log_softmax(-1)[0]
            # Up to the letter: what follows it is the same text, but not equally likely.
            start = len(each.prompt)
            upto = len(written) + len(letters[0]) + 1
            scores.append(sum(float(log_p[start + i - 1, each.response[i]]) for i in range(upto)))
        assert found[place] == max(range(len(scores)), key=scores.__getitem__)
    assert len(set(found.values())) > 1
