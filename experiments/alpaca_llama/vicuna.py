"""Answer Vicuna's 80 questions for a judge (the paper's GPT-4 comparison, Figs. 5 and 6).

A run's `answers.jsonl` is an answer file of that benchmark: one object per line with "answer_id",
"model_id", "question_id", "text" and "metadata". A judge compares two files question by question;
`zia score pairwise` reads its verdicts.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from experiments.alpaca_llama.instructions import Instruction
from experiments.data.files import (
    DATA_VARIABLE,
    official_file,
    parse_json,
    read_text,
    text_field,
    where_looked,
)
from experiments.harness.spec import RunSpec
from experiments.io.files import canonical_json
from zia_core.errors import ZiaError

FILE = "vicuna80/question.jsonl"
SOURCE = "https://github.com/haotian-liu/LLaVA, llava/eval/table/question.jsonl"


def load_questions() -> list[Instruction]:
    """Return the questions of `$ZIA_DATA/vicuna80/question.jsonl[.gz]` in the order of the file.

    ZiaError if the file is missing, or a line has no number or no text.
    """
    path = official_file(FILE)
    if path is None:
        raise ZiaError(
            f"no Vicuna questions: {where_looked(FILE)}; put the file of {SOURCE} into the folder "
            f"vicuna80/ of ${DATA_VARIABLE}, or --set vicuna=false"
        )
    found: dict[int, Instruction] = {}
    # Not splitlines, which also splits at line separators within JSON strings.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), start=1):
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        text = text_field(row, "text", where)
        question = row.get("question_id")
        if type(question) is not int or question in found:
            raise ZiaError(f"{where}: 'question_id' must be a whole number that no line above has")
        found[question] = Instruction(str(question), text)
    return list(found.values())


def fingerprint(questions: Iterable[Instruction]) -> str:
    """A SHA-256 that identifies these questions in this order."""
    texts = [[each.id, each.instruction] for each in questions]
    return hashlib.sha256(canonical_json(texts).encode()).hexdigest()


def answer_records(
    spec: RunSpec, questions: Iterable[Instruction], texts: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """Yield the records of an answer file; equal runs and answers have equal ids."""
    model = f"{spec.backbone}-{spec.method}:{spec.identity}"
    for question, text in zip(questions, texts, strict=True):
        content = canonical_json([model, question.id, text])
        yield {
            "answer_id": hashlib.sha256(content.encode()).hexdigest()[:22],
            "model_id": model,
            "question_id": int(question.id),
            "text": text,
            "metadata": {"decoding": "greedy", "seed": spec.seed},
        }
