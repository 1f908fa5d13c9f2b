"""Compare what commands print with their transcript in a README."""

import doctest
import re
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Identities and commits, names of submissions, numbers of jobs, cores, and sizes at the hub.
VARIES = re.compile(
    r"\b[0-9a-f]{12,}\b|\b\d{8}-\d{6}-[0-9a-f]{6}\b|(?<=job )\d+|(?<=workers with )[^,]+"
    r"|[\d.]+(?= MB)"
)
HOME = "/home/me"  # where the transcripts were made


def transcript(readme: Path, experiment: str) -> dict[str, str]:
    """What each command about the experiment prints, in a README's order."""
    blocks = BLOCK.findall(readme.read_text("utf-8"))
    parts = [part.partition("\n") for block in blocks for part in block.split("$ ")[1:]]
    return {command: said for command, _, said in parts if experiment in command.split()}


def differs(expected: str, printed: str, folder: Path) -> str:
    """How what was printed in a folder differs from a transcript, or an empty text.

    A line `...` stands for any lines, lines may be folded, and what varies need not be equal.
    """
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    printed = printed.replace(str(folder), HOME)
    want, got = VARIES.sub("#", expected), VARIES.sub("#", printed)
    if doctest.OutputChecker().check_output(want, got, flags):
        return ""
    return f"expected:\n{expected}\nprinted:\n{printed}"
