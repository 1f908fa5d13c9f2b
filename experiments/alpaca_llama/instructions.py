"""Instructions that a model answers after training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.data.files import (
    DATA_VARIABLE,
    official_file,
    parse_json,
    read_text,
    text_field,
    where_looked,
)
from experiments.mini_world.instructions import instructions
from experiments.mini_world.provided import PROFILE as MINI
from zia_core.errors import ZiaError

USER_ORIENTED_FILE = "alpaca/user_oriented_instructions.jsonl"
USER_ORIENTED_SOURCE = (
    "https://github.com/yizhongw/self-instruct, human_eval/user_oriented_instructions.jsonl"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction and, where there is one, a human answer."""

    id: str
    instruction: str
    input: str = ""
    reference: str | None = None


# Our own, one of each kind. The paper's nine are in its appendix.
NINE_INSTRUCTIONS = (
    Instruction("explain", "Explain to a ten-year-old why the sky looks red at sunset."),
    Instruction("list", "List five things to check before a long bicycle tour."),
    Instruction(
        "rewrite",
        "Rewrite the sentence so that it is polite and half as long.",
        "You have to send me the figures today because I have been waiting for them for two weeks "
        "now and nobody has told me anything.",
    ),
    Instruction(
        "code", "Write a Python function that returns the second largest number of a list."
    ),
    Instruction(
        "arithmetic",
        "A train leaves at 9:40 and arrives at 13:05, and it stands for 25 minutes on the way. For "
        "how long does it move? Show the steps.",
    ),
    Instruction(
        "email", "Write a short email to a landlord about a heating that has failed for three days."
    ),
    Instruction("translate", "Translate into French.", "The library is closed on Mondays."),
    Instruction("story", "Tell a story of four sentences about a lighthouse and a lost glove."),
    Instruction(
        "reason",
        "Anna is older than Ben, and Carla is younger than Ben. Who is the youngest, and why?",
    ),
)


def own_instructions(profile: str) -> list[Instruction]:
    """Return the instructions asked by default, whose texts may be shown.

    The pocket LLaMA of `mini` does not know the words of the nine. It is asked the first
    instruction of each of the six forms in the test set; ids are rows of the generated file.
    """
    if profile != MINI:
        return list(NINE_INSTRUCTIONS)
    forms: dict[str, Instruction] = {}
    for row, each in enumerate(instructions()):
        if each.split == "test":
            form = each.instruction.split()[0]
            forms.setdefault(form, Instruction(str(row), each.instruction, each.input, each.output))
    return list(forms.values())


def load_user_oriented() -> list[Instruction]:
    """Return the 252 user-oriented instructions of Self-Instruct, with their reference answers.

    They are read from `$ZIA_DATA/alpaca/user_oriented_instructions.jsonl[.gz]`, in the official
    format: one object per line with id, instruction and one instance of input and output. ZiaError
    if the file is missing or damaged.
    """
    path = official_file(USER_ORIENTED_FILE)
    if path is None:
        raise ZiaError(
            f"no user-oriented instructions: {where_looked(USER_ORIENTED_FILE)}; put the file of "
            f"{USER_ORIENTED_SOURCE} into the folder alpaca/ of ${DATA_VARIABLE}"
        )
    return list(_instructions(path))


def _instructions(path: Path) -> Iterator[Instruction]:
    seen = set()
    # Not splitlines, which also splits at line separators within JSON strings.
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), start=1):
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        identifier = text_field(row, "id", where)
        instruction = text_field(row, "instruction", where)
        instances = row.get("instances")
        if not isinstance(instances, list) or len(instances) != 1:
            raise ZiaError(f"{where}: 'instances' must be a list with one input and output")
        if identifier in seen:
            raise ZiaError(f"{where}: the id {identifier!r:.60} was used before")
        seen.add(identifier)
        context, reference = (
            text_field(instances[0], field, f"{where}, its instance")
            for field in ("input", "output")
        )
        yield Instruction(identifier, instruction, context, reference)
