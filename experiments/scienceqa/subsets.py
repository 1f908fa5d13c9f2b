"""The problems of a run: all of ScienceQA, or a named subset listed in this folder.

`reduced-1773`: the problems 1 to 1773, in their official splits. `reduced-own-split`: questions of
the official test split that have an image, in training, validation and test parts of our own, with
no picture and no question text in two parts; its numbers are never compared with the paper's.
`mini`: all problems of the generated world; `mini-images`: those with an image.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.data import subsets
from experiments.data.files import official_file
from experiments.scienceqa.data import SIZES, Problem, load_problems
from zia_core.errors import ZiaError

FOLDER = Path(__file__).parent
OWN_SPLIT = "reduced-own-split"
MINI, MINI_IMAGES = "mini", "mini-images"
OWN_FOLDER = "scienceqa-images"
REMEDY = "these ScienceQA data: use the official problems.json"


@dataclass(frozen=True)
class Splits:
    """The problems of a run."""

    train: list[Problem]
    val: list[Problem]
    test: list[Problem]


def select(name: str) -> Splits:
    """Load the problems of the data named `name`.

    ZiaError as in `load_problems`; for an unknown name; for `full` if problems are missing; for a
    listed problem that is missing or has another text.
    """
    names = [*subsets.subset_names(FOLDER), MINI, MINI_IMAGES]
    subsets.check_name(name, names)
    # The own split needs only the questions, so problems in its folder may lack a grade.
    own = name == OWN_SPLIT and official_file(f"{OWN_FOLDER}/problems.json") is not None
    problems = load_problems(OWN_FOLDER if own else "scienceqa")
    if name == MINI_IMAGES:
        problems = {pid: problem for pid, problem in problems.items() if problem.image}
    if name in (subsets.FULL, subsets.SAMPLE, MINI, MINI_IMAGES):
        parts = {s: [p for p in problems.values() if p.split == s] for s in SIZES}
        counts = {split: len(part) for split, part in parts.items()}
        if name not in (MINI, MINI_IMAGES) and counts != SIZES:
            raise ZiaError(
                f"these ScienceQA data are not complete ({counts}, officially {SIZES}): fetch the "
                f"rest, or use data={', '.join(names[1:-3])}"
            )
        if name == subsets.SAMPLE:
            parts = {s: subsets.sample(part, trained=s == "train") for s, part in parts.items()}
        return Splits(**parts)
    content = subsets.read_subset(FOLDER, name)
    listed = {s: subsets.listed(problems, content[s], name, REMEDY) for s in SIZES}
    return Splits(**listed)
