"""The generated blocks of `benchmarks/README.md`: goals, and each benchmark's tables.

    python -m benchmarks.table

A block lies between `<!-- NAME -->` and `<!-- end of NAME -->`; what is measured lies in
`results/NAME-cpu.json` and `results/NAME-cuda.json`.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import BENCHMARKS, show
from benchmarks.goals import GOALS
from experiments.harness.files import read_json, write_atomic
from zia_core.errors import ZiaError

FOLDER = Path(__file__).parent
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
GOALS_BLOCK = "goals"


def filled(text: str, results: Path) -> str:
    """`text` with every block made anew; ZiaError if one is missing or a result is damaged."""
    found = {
        (name, device): read_json(path)
        for name in BENCHMARKS
        for device in DEVICES
        if (path := results / f"{name}-{device}.json").exists()
    }
    for name in (GOALS_BLOCK, *BENCHMARKS):
        made = _goals(found) if name == GOALS_BLOCK else _tables(name, found)
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, *rest = text.split(begin)
        _, *after = "".join(rest).split(end)
        if len(rest) != 1 or len(after) != 1:
            raise ZiaError(
                f"benchmarks/README.md must have one block from <!-- {name} --> to "
                f"<!-- end of {name} -->: put it back"
            )
        text = f"{before}{begin}\n{made}\n{end}{after[0]}"
    return text


def _goals(found: dict[tuple[str, str], dict[str, Any]]) -> str:
    lines = ["| goal | bound | CPU | GPU |", "| --- | --- | --- | --- |"]
    for goal in GOALS:
        verdicts = [goal.verdict(found.get((goal.benchmark, device))) for device in DEVICES]
        about = f"`{goal.benchmark}`: {goal.sentence}"
        lines.append(f"| {' | '.join([about, goal.bound, *verdicts])} |")
    return "\n".join(lines) + "\n"


def _tables(name: str, found: dict[tuple[str, str], dict[str, Any]]) -> str:
    texts = []
    for device, called in DEVICES.items():
        result = found.get((name, device))
        if result is None:
            texts.append(f"{called}: not measured.\n")
            continue
        texts.append(f"{show.where(result)}\n")
        texts += [f"*{title}*\n\n{show.table(part)}" for title, part in result["parts"].items()]
    return "\n".join(texts)


def main() -> None:
    """Write the README again."""
    path = FOLDER / "README.md"
    try:
        write_atomic(path, filled(path.read_text(), FOLDER / "results"))
    except ZiaError as error:
        sys.exit(f"table: {error}")
    print(path.name)


if __name__ == "__main__":
    main()
