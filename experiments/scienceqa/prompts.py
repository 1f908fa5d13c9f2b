"""Write questions in ScienceQA's formats QCM-A and QCM-EA, to the character.

    Question: Which is a mammal?
    Context: N/A
    Options: (A) trout (B) otter
    Answer: The answer is B.

The response of QCM-EA has the solution first: `Otters have fur. The answer is B.` Lectures and
captions are never used. Two spaces become one, as in the official code.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.language.examples import Example
from experiments.language.tokens import prompt_ids, response_ids
from experiments.metrics.scienceqa.scorer import LETTERS
from experiments.scienceqa.data import Problem
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CONTEXT = "N/A"
Context = Literal["hint", "none"]
Output = Literal["A", "EA"]
CONCLUSION = " The answer is"


def prompt_text(problem: Problem, context: str) -> str:
    """The prompt with this context; the response follows "Answer:"."""
    options = " ".join(
        f"({letter}) {choice}" for letter, choice in zip(LETTERS, problem.choices, strict=False)
    )
    text = (
        f"Question: {problem.question}\nContext: {context.strip() or NO_CONTEXT}\n"
        f"Options: {options}\nAnswer:"
    )
    return text.replace("  ", " ").strip()


def typed_question(text: str, image: Path) -> str:
    """The prompt of `question|option|option`; ZiaError without options or with too many."""
    question, *choices = (part.strip() for part in text.split("|"))
    if not question or not 1 <= len(choices) <= len(LETTERS) or not all(choices):
        raise ZiaError(
            f"{text!r:.80} is not a question with 1 to {len(LETTERS)} options: write it like "
            "'Which?|this|that'"
        )
    return prompt_text(Problem("asked", question, tuple(choices), 0, "", image, "test", {}), "")


def response_text(answer: int, solution: str = "") -> str:
    """The text after "Answer:"; with a solution in the format QCM-EA."""
    return f"{_said(solution)}{CONCLUSION} {LETTERS[answer]}."


def explanation(output: str) -> str:
    """The part of an output before its conclusion; all of it without one."""
    return _said(output.partition(CONCLUSION.strip())[0])


def _said(text: str) -> str:
    words = " ".join(text.split())
    return f" {words}" if words else ""


def encode(
    problems: Sequence[Problem],
    tokenizer: "PreTrainedTokenizerBase",
    context: Context,
    max_length: int,
    image_row: Callable[[Problem], int | None] = lambda problem: None,
    output: Output = "A",
) -> tuple[list[Example], int]:
    """Return the problems as examples of at most `max_length` tokens, and how many were cut.

    Cutting removes the last words of the context, never the question or the options.

    ZiaError for a problem that is too long even without context, or that lacks a hint or a solution
    that the format needs.
    """
    given = [_context(problem, context) for problem in problems]
    texts = [prompt_text(p, hint) for p, hint in zip(problems, given, strict=True)]
    prompts = prompt_ids(tokenizer, texts)
    said = ["" if output == "A" else _solution(problem) for problem in problems]
    texts = [response_text(p.answer, each) for p, each in zip(problems, said, strict=True)]
    responses = response_ids(tokenizer, texts)
    cut = 0
    for i, problem in enumerate(problems):
        room = max_length - len(responses[i])
        if len(prompts[i]) > room:
            prompts[i] = _shortened(problem, given[i], room, tokenizer)
            cut += 1
    examples = [
        Example(problem.id, prompt, response, image_row(problem))
        for problem, prompt, response in zip(problems, prompts, responses, strict=True)
    ]
    return examples, cut


def letter_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The tokens between "Answer:" and the letter, and the token of each letter.

    ZiaError if a letter is not one token.
    """
    responses = response_ids(tokenizer, [response_text(i) for i in range(len(LETTERS))])
    differing = [i for i, column in enumerate(zip(*responses, strict=False)) if len({*column}) > 1]
    if len(differing) != 1 or len({len(response) for response in responses}) != 1:
        raise ZiaError(f"{tokenizer.name_or_path} does not give every option's letter one token")
    place = differing[0]
    return responses[0][:place], [response[place] for response in responses]


def _context(problem: Problem, context: Context) -> str:
    if context == "none":
        return ""
    if problem.hint is None:
        raise ZiaError(f"problem {problem.id!r} has no field 'hint': add it, or set context=none")
    return problem.hint


def _solution(problem: Problem) -> str:
    solution = problem.record.get("solution")
    if not isinstance(solution, str) or not solution.strip():
        raise ZiaError(f"problem {problem.id!r} has no 'solution': add it, or set output=A")
    return solution


def _shortened(
    problem: Problem, hint: str, room: int, tokenizer: "PreTrainedTokenizerBase"
) -> list[int]:
    """The prompt with as many words of its context as fit into `room` tokens."""
    words = hint.split(" ")

    def with_words(number: int) -> list[int]:
        return prompt_ids(tokenizer, [prompt_text(problem, " ".join(words[:number]))])[0]

    # More words are never fewer tokens, so the longest prompt that fits is found by bisection. Zero
    # words are an exception: the context is then N/A.
    kept = bisect_left(range(1, len(words) + 1), True, key=lambda n: len(with_words(n)) > room)
    prompt = with_words(kept)
    if len(prompt) > room:
        raise ZiaError(
            f"problem {problem.id!r}: question and options alone take {len(prompt)} tokens where "
            f"there is room for {room}: raise max_length"
        )
    return prompt
