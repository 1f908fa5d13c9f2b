"""Score ScienceQA's own files: a result file, problems.json, and pid_splits.json.

Result file: {"results": {pid: index}, "outputs": {pid: text}}; one of the two may be absent, and
other fields are ignored. Problems: {pid: {"question", "choices", "answer", "hint", "image",
"grade", "subject", "topic", "split", ...}}. Splits: {"test": [pid, ...], ...}.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.data.files import parse_json, read_text, text_field
from experiments.metrics.scienceqa.scorer import (
    CLASSES,
    LETTERS,
    TOPICS,
    Question,
    named,
    parse_answer,
    score,
)
from zia_core.errors import ZiaError

SPLIT = "test"  # the split that the official scorer uses
SPLITS = ("train", "val", "test")
OFFICIAL_IDS = range(1, 21_209)  # of the complete data set
FIELDS = ("outputs", "results")
UNPARSABLE = -1  # "no answer", in result files without outputs


def score_files(
    predictions: Path, problems: Path, splits: Path | None = None, *, stored_indices: bool = False
) -> tuple[dict[str, float], list[str]]:
    """Return the test split's scores with official names and precision, and remarks.

    Accuracies are percentages with two decimals, or -1 for a class without questions. Outputs are
    parsed; with `stored_indices`, the file's indices are used instead, including those that the
    official run drew at random for outputs that it could not parse.

    The problems may be a subset of the official ones. Predictions for the rest of the test split
    are ignored, with a remark; without `splits`, that includes any official id not among the
    problems. ZiaError as from the readers, for a test problem without a prediction, and for a
    prediction of anything else.
    """
    given = read_predictions(predictions)
    asked, elsewhere = read_problems(problems, splits)
    left_out = given.keys() - asked.keys()
    if unknown := {pid for pid in left_out if not elsewhere(pid)}:
        raise ZiaError(
            f"{predictions}: {len(unknown):,} predictions are for no {SPLIT} problem of "
            f"{splits or problems} ({named(unknown)}): leave them out"
        )
    if missing := asked.keys() - given.keys():
        raise ZiaError(
            f"{predictions}: {len(missing):,} of {len(asked):,} {SPLIT} problems of {problems} "
            f"have no prediction ({named(missing)}): give one for each"
        )
    parsed: dict[str, int | None] = {}
    stored: dict[str, int | None] = {}
    for pid, question in asked.items():
        output, index = given[pid]
        if output is not None:
            parsed[pid] = parse_answer(output, question.choices)
        if index is not None:
            stored[pid] = _option(index, question, f"{predictions}: the result of {pid!r}")
    if stored_indices and not stored:
        raise ZiaError(f"{predictions} has no 'results', so no stored indices: score its outputs")
    scores = score(asked, stored if stored_indices or not parsed else parsed)
    remarks = []
    if parsed:
        scores["unparsable"] = sum(index is None for index in parsed.values())
    if parsed and stored and scores["unparsable"] and not stored_indices:
        remarks.append(
            f"{scores['unparsable']:,} outputs cannot be parsed and count as wrong; "
            "--stored-indices scores the file's own indices instead, drawn at random for these."
        )
    if left_out:
        remarks.append(
            f"{len(left_out):,} of {len(given):,} predictions ({named(left_out)}) are left out: "
            f"their problems are not in {problems}."
        )
    return _official(scores), remarks


def read_predictions(path: Path) -> dict[str, tuple[str | None, int | None]]:
    """Return (output, stored index) by pid; None for the one that the file lacks.

    ZiaError, naming the record, for an invalid file, and for an id in only one of "results" and
    "outputs" if the file has both.
    """
    root = parse_json(read_text(path), str(path))
    given = {k: v for k, v in root.items() if k in FIELDS} if isinstance(root, dict) else {}
    if not given:
        raise ZiaError(
            f"{path} must be an object with 'results' or 'outputs', as ScienceQA's result files are"
        )
    for name, values in given.items():
        if not isinstance(values, dict):
            raise ZiaError(f"{path}: {name!r} must be an object with one value a pid")
    if len(given) == 2 and (odd := given["outputs"].keys() ^ given["results"].keys()):
        raise ZiaError(
            f"{path}: {named(odd)} must be under 'results' and 'outputs', not under one of them"
        )
    outputs, results = given.get("outputs", {}), given.get("results", {})
    for pid, index in results.items():
        if type(index) is not int:
            raise ZiaError(f"{path}: the result of {pid!r} must be an index, not {index!r:.60}")
    return {
        pid: (
            text_field(outputs, pid, f"{path}, outputs") if pid in outputs else None,
            results.get(pid),
        )
        for pid in outputs or results
    }


def read_problems(
    path: Path, splits: Path | None = None
) -> tuple[dict[str, Question], Callable[[str], bool]]:
    """Return the test problems, and a predicate for pids that may be test problems not among them.

    Every problem's split must be known, from `splits` or its own field. ZiaError, naming the
    record, if it is not, if the two differ, or if a problem is invalid.
    """
    problems = parse_json(read_text(path), str(path))
    if not isinstance(problems, dict):
        raise ZiaError(
            f"{path} must be an object {{pid: problem}}, as ScienceQA's problems.json is"
        )
    listed = None if splits is None else read_splits(splits)
    asked = {}
    for pid, problem in problems.items():
        where = f"{path}, problem {pid!r}"
        if not isinstance(problem, dict):
            raise ZiaError(f"{where} must be a JSON object")
        own = problem.get("split")
        split = own if listed is None else listed.get(pid)
        if not isinstance(split, str) or split not in SPLITS:
            raise ZiaError(
                f"{where} has no split: "
                + (
                    "give --splits, or it a field 'split'"
                    if splits is None
                    else f"add it to {splits}"
                )
            )
        if own not in (None, split):
            raise ZiaError(f"{where} says split {own!r:.60}, and {splits} {split!r}: repair one")
        if split == SPLIT:
            asked[pid] = question_of(problem, where)
    if not asked:
        raise ZiaError(f"{path} has no problem of the {SPLIT} split: give one that has")

    def elsewhere(pid: str) -> bool:
        if pid in problems:
            return False
        if listed is not None:
            return listed.get(pid) == SPLIT
        return bool(re.fullmatch(r"[1-9]\d{0,4}", pid)) and int(pid) in OFFICIAL_IDS

    return asked, elsewhere


def read_splits(path: Path) -> dict[str, str]:
    """Return the split by pid (train, val or test); ZiaError for a pid in two of them."""
    lists = parse_json(read_text(path), str(path))
    if not isinstance(lists, dict) or not isinstance(lists.get(SPLIT), list):
        raise ZiaError(f"{path} must be an object {{split: [pid]}} with {SPLIT!r}")
    found: dict[str, str] = {}
    for split in SPLITS:
        if not isinstance(lists.get(split, []), list):
            raise ZiaError(f"{path}: {split!r} must be a list of pids")
        for pid in lists.get(split, []):
            if not isinstance(pid, str):
                raise ZiaError(f"{path}, {split}: a pid must be a text, not {pid!r:.60}")
            if pid in found:
                raise ZiaError(f"{path}: {pid!r} is in {found[pid]} and in {split}: keep one")
            found[pid] = split
    return found


def question_of(problem: dict[str, Any], where: str) -> Question:
    """Return the fields of a problem that scoring needs; a ZiaError starts with `where`."""
    choices, answer, image = (problem.get(name) for name in ("choices", "answer", "image"))
    if not isinstance(choices, list) or not 1 <= len(choices) <= len(LETTERS):
        raise ZiaError(f"{where}: 'choices' must be a list of 1 to {len(LETTERS)} options")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise ZiaError(f"{where}: 'answer' must be an index into its {len(choices)} options")
    if not isinstance(image, str | None):
        raise ZiaError(f"{where}: 'image' must be a file name or null, not {image!r:.60}")
    grade = re.fullmatch(r"grade(\d{1,2})", text_field(problem, "grade", where))
    if grade is None:
        raise ZiaError(f"{where}: 'grade' must be like 'grade7', not {problem['grade']!r:.60}")
    return Question(
        len(choices),
        answer,
        text_field(problem, "subject", where),
        text_field(problem, "topic", where),
        int(grade[1]),
        bool(text_field(problem, "hint", where)),
        bool(image),
    )


def _option(index: int, question: Question, where: str) -> int | None:
    if index == UNPARSABLE:
        return None
    if not 0 <= index < question.choices:
        raise ZiaError(
            f"{where} is {index}, but the problem has {question.choices} options: "
            f"give 0 to {question.choices - 1}, or {UNPARSABLE} for no answer"
        )
    return index


def _official(scores: dict[str, float]) -> dict[str, float]:
    """The scores with two decimals, and -1 for a class without questions."""
    keys = [column.key for column in CLASSES] + [f"acc_{topic}" for topic in TOPICS]
    rounded = {key: float(f"{scores[key]:.2f}") if key in scores else -1 for key in keys}
    main = {key: rounded.pop(key) for key in keys[: len(CLASSES)]}
    return main | {key: scores[key] for key in ("correct", "count", "unparsable")} | rounded
