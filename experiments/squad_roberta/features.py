"""Batches of windows of questions, whose tokens are cached as Arrow."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.data.arrow_cache import cached
from experiments.io.files import canonical_json
from experiments.language.token_rows import TokenRows
from experiments.squad_roberta import windows
from experiments.squad_roberta.data import Question, fingerprint
from experiments.squad_roberta.windows import Frame, Ints, Window, WindowSettings
from zia_core.errors import ZiaError

if TYPE_CHECKING:  # slow to import, and not needed to describe a run
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

BATCH = 256  # questions tokenised, and in memory, at once
COLUMNS = ("row", "context_at", "first", "last")  # and the lists ids, starts, ends
LISTS = ("ids", "starts", "ends")


class WindowDataset:
    """The windows of all questions, in order; makes batches padded on the right.

    An example is a window. Tokens stay on disk.
    """

    def __init__(
        self, table: "Dataset", questions: Sequence[Question], frame: Frame, pad: int
    ) -> None:
        self._table = table.with_format("numpy")
        self.multiple = 1  # a batch is padded to a multiple of so many tokens
        self._texts = TokenRows.in_column(table, "ids")
        columns = self._table.select_columns([*COLUMNS, "tokens"])[:]
        self._rows, self._tokens = columns["row"], columns["tokens"]
        self._context_at, self._labels = columns["context_at"], (columns["first"], columns["last"])
        self._ids = [question.id for question in questions]
        self._frame, self._pad = frame, pad
        self._bounds = np.searchsorted(self._rows, np.arange(len(questions) + 1))

    def __len__(self) -> int:
        return len(self._tokens)

    def length(self, i: int) -> int:
        """The number of tokens of window `i`."""
        return int(self._tokens[i])

    def labels(self, i: int) -> int:
        """The number of labels of window `i`: start and end, or 0 if its answer has no tokens."""
        return 0 if self._labels[0][i] == windows.IGNORED else 2

    def record_id(self, i: int) -> str:
        """The id of window `i`'s question."""
        return self._ids[self._rows[i]]

    def windows_of(self, row: int) -> range:
        """The windows of question `row`, from left to right."""
        return range(int(self._bounds[row]), int(self._bounds[row + 1]))

    def window(self, i: int) -> Window:
        """Window `i`."""
        row = self._table[i]
        label = int(self._labels[0][i]), int(self._labels[1][i])
        return Window(
            row["ids"].tolist(), int(self._context_at[i]), row["starts"], row["ends"], label
        )

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """The inputs of a question-answering model, all int64.

        Returns:
            input_ids, attention_mask and, if the tokenizer has two types, token_type_ids, (B, T)
            each; start_positions and end_positions, (B,) each.
        """
        import torch

        # RoBERTa computes its positions from the padding id.
        input_ids, mask = self._texts.padded(indices, self._pad, self.multiple)
        batch = {"input_ids": input_ids, "attention_mask": mask}
        if self._frame.types != (0, 0):
            context = torch.tensor([int(self._context_at[i]) for i in indices])[:, None]
            first, second = self._frame.types
            types = torch.where(torch.arange(mask.shape[1]) < context, first, second)
            batch["token_type_ids"] = types.masked_fill(mask == 0, 0)
        for name, labels in zip(("start_positions", "end_positions"), self._labels, strict=True):
            batch[name] = torch.tensor([int(labels[i]) for i in indices])
        return batch


def features(
    questions: Sequence[Question],
    tokenizer: "PreTrainedTokenizerBase",
    settings: WindowSettings,
    cache: Path | None = None,
) -> WindowDataset:
    """Return the windows of the questions, from the cache if they are there (see `arrow_cache`).

    The first of several answers is the label. ZiaError for a tokenizer that is not fast, not like
    BERT's or without padding, and for settings that leave no room.
    """
    frame = windows.frame_of(tokenizer)
    code = [Path(path).read_bytes() for path in (__file__, windows.__file__)]
    what = {
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "frame": asdict(frame),
        "settings": asdict(settings),
        "code": hashlib.sha256(b"".join(code)).hexdigest(),
        "questions": fingerprint(questions),
    }
    key = hashlib.sha256(canonical_json(what).encode()).hexdigest()[:32]
    table = cached(key, lambda: _table(questions, tokenizer, frame, settings), cache)
    return WindowDataset(table, questions, frame, int(tokenizer.pad_token_id))


def _table(
    questions: Sequence[Question],
    tokenizer: "PreTrainedTokenizerBase",
    frame: Frame,
    settings: WindowSettings,
) -> "Dataset":
    import pyarrow as pa
    from datasets import Dataset, Features, List, Value

    number = Value("int32")
    kinds: dict[str, Any] = dict.fromkeys((*COLUMNS, "tokens"), number)
    schema = Features(kinds | dict.fromkeys(LISTS, List(number))).arrow_schema
    # Written in pieces, so that memory does not grow with the data. The file is deleted at once;
    # its content stays as long as the table is in use.
    with tempfile.TemporaryDirectory(prefix="zia-windows-") as folder:
        path = Path(folder, "windows.arrow")
        try:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
                for start in range(0, len(questions), BATCH):
                    part = questions[start : start + BATCH]
                    columns = _columns(start, part, tokenizer, frame, settings)
                    stream.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
        except OSError as error:
            raise ZiaError(
                f"cannot write the table of tokens {path} ({error.strerror or error}): make room "
                "or set TMPDIR to another folder"
            ) from error
        return Dataset.from_file(str(path))


def _columns(
    start: int,
    questions: Sequence[Question],
    tokenizer: "PreTrainedTokenizerBase",
    frame: Frame,
    settings: WindowSettings,
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, "tokens", *LISTS)}
    for row, window in _windows(start, questions, tokenizer, frame, settings):
        values: dict[str, int | list[int] | Ints] = {
            "row": row,
            "context_at": window.context_at,
            "first": window.label[0],
            "last": window.label[1],
            "tokens": len(window.ids),
            "ids": window.ids,
            "starts": window.starts,
            "ends": window.ends,
        }
        for name, value in values.items():
            columns[name].append(value)
    return columns


def _windows(
    start: int,
    questions: Sequence[Question],
    tokenizer: "PreTrainedTokenizerBase",
    frame: Frame,
    settings: WindowSettings,
) -> Iterator[tuple[int, Window]]:
    texts = list(dict.fromkeys(question.context for question in questions))
    contexts = dict(zip(texts, windows.tokens_of(tokenizer, texts), strict=True))
    asked = windows.tokens_of(tokenizer, [question.text.strip() for question in questions])
    for row, (question, tokens) in enumerate(zip(questions, asked, strict=True), start):
        context, answer = contexts[question.context], _characters(question)
        try:
            found = windows.windows_of(tokens, context, answer, frame, settings)
        except ZiaError as error:
            raise ZiaError(f"question {question.id}: {error}") from error
        for window in found:
            yield row, window


def _characters(question: Question) -> tuple[int, int] | None:
    """The characters [start, end) of the first answer, stripped of spaces."""
    if not question.answers:
        return None
    text, start = question.answers[0]
    start += len(text) - len(text.lstrip())
    return start, start + len(text.strip())
