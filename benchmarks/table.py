"""Generate the blocks of `benchmarks/README.md`: goals, and each benchmark's tables.

    python -m benchmarks.table           # rewrite the README from benchmarks/results
    python -m benchmarks.table FOLDER    # print it with the results in FOLDER, write nothing

A block is between `<!-- NAME -->` and `<!-- end of NAME -->`; its results are in `NAME-cpu.json`
and `NAME-cuda.json`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import BENCHMARKS, show
from benchmarks.goals import GOALS
from experiments.io.files import read_json, write_atomic
from experiments.io.output import tell
from zia_core.arguments import named_path
from zia_core.errors import ZiaError

FOLDER = Path(__file__).parent
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
GOALS_BLOCK = "goals"


def filled(text: str, results: Path) -> str:
    """`text` with all blocks regenerated; ZiaError if one is missing or a result is damaged."""
    found = {
        (name, device): _result(path, name)
        for name in BENCHMARKS
        for device in DEVICES
        if (path := results / f"{name}-{device}.json").exists()
    }
    if results.is_dir() and not found and any(results.glob("*.json")):
        raise ZiaError(
            f"{results} has JSON files, but none is named as a benchmark's result is: "
            "NAME-cpu.json or NAME-cuda.json"
        )
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


def _result(path: Path, name: str) -> dict[str, Any]:
    """The JSON of the benchmark `name`; ZiaError if it cannot be read."""
    result = read_json(path)
    if result.get("benchmark") != name:
        raise ZiaError(
            f"{path} is not a result of {name}: run `zia bench {name} --out {path}` again"
        )
    try:
        show.where(result)
        for part in result["parts"].values():
            show.table(part)
        for goal in GOALS:
            if goal.benchmark == name:
                goal.verdict(result)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ZiaError(
            f"{path} is damaged or of another version ({type(error).__name__}: {error}): run "
            f"`zia bench {name} --out {path}` again"
        ) from error
    return result


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
    """Rewrite the README, or print it with other results."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.table",
        description="Write benchmarks/README.md again, from the results that are kept there.",
    )
    parser.add_argument(
        "folder",
        type=named_path,
        nargs="?",
        help="with results of your own (NAME-cpu.json, NAME-cuda.json): print, and write nothing",
    )
    folder, path = parser.parse_args().folder, FOLDER / "README.md"
    try:
        if folder is not None and not folder.is_dir():
            raise ZiaError(f"there is no folder {folder}")
        text = filled(path.read_text(encoding="utf-8"), folder or FOLDER / "results")
        if folder is not None:
            tell(text.removesuffix("\n"))
            return
        write_atomic(path, text)
    except ZiaError as error:
        sys.exit(f"table: {error}")
    tell(path.name)


if __name__ == "__main__":
    main()
