"""Which questions a run sees: all of SQuAD, or a named subset listed in this folder.

A subset's file also names its task and the file in `$ZIA_DATA/squad` that has its training
questions; without it, they are taken from the official training set.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.data import subsets
from experiments.data.files import official_file
from experiments.language.squad_files import Part
from experiments.metrics.squad.official import Version
from experiments.squad_roberta.data import Question, load_squad
from zia_core.errors import ZiaError

FOLDER = Path(__file__).parent
WHOLE = (subsets.FULL, subsets.SAMPLE)  # read from the official files, and not from a list
TASKS: dict[str, Version] = {"squad-v1.1": "1.1", "squad-v2.0": "2.0"}


@dataclass(frozen=True)
class Splits:
    """The questions of a run; choices are made on `validation`, a part of the training set."""

    train: list[Question]
    validation: list[Question]
    dev: list[Question]


def select(task: str, data: str) -> Splits:
    """Load the questions of the data named `data`, in the order of the files (full) or as listed.

    ZiaError as in `load_squad`, and for an unknown name, a subset of another task, or a listed
    question that is missing or has another text.
    """
    subsets.check_name(data, subsets.subset_names(FOLDER))
    training = _questions(task, data, "train")
    if data in WHOLE:
        train = [question for question in training if question.split == "train"]
        validation = [question for question in training if question.split == "validation"]
        if data == subsets.SAMPLE:
            train, validation = subsets.sample(train, trained=True), subsets.sample(validation)
        return Splits(train, validation, development(task, data))
    return Splits(
        _listed(training, data, "train", "train"),
        _listed(training, data, "validation", "train"),
        development(task, data),
    )


def development(task: str, data: str) -> list[Question]:
    """Load the dev questions alone; ZiaError as in `select`."""
    subsets.check_name(data, subsets.subset_names(FOLDER))
    questions = _questions(task, data, "dev")
    if data == subsets.SAMPLE:
        return subsets.sample(questions)
    return questions if data == subsets.FULL else _listed(questions, data, "dev", "dev")


def _questions(task: str, data: str, part: Part) -> list[Question]:
    file = None
    if data not in WHOLE:
        content = subsets.read_subset(FOLDER, data)
        if content["task"] != task:
            raise ZiaError(f"the subset {data} is of {content['task']}, not {task}")
        if part == "train" and official_file(f"squad/{content['train_file']}"):
            file = content["train_file"]
    return load_squad(TASKS[task], part, file)


def _listed(questions: list[Question], data: str, split: str, part: Part) -> list[Question]:
    content = subsets.read_subset(FOLDER, data)
    by_id = {question.id: question for question in questions}
    remedy = f"these {part} questions of SQuAD: use the official file, or {content['train_file']}"
    return subsets.listed(by_id, content[split], data, remedy)
