"""Compare rebuilt pocket backbones with the released: `python -m experiments.pretrain.compare`.

On the release's machine and packages the files are identical; elsewhere rounding differs, and only
their quality can be compared.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.backbones.release import FOLDER
from experiments.backbones.weights import CARD, RELEASED
from experiments.harness.provenance import PROJECT
from experiments.io.files import read_json
from experiments.io.output import guarded, tell
from zia_core.errors import ZiaError

# The released folder of each, and the card in the folder of the run that makes it.
MADE = {
    RELEASED / "pocket-llama": f"pretrain_llama/*-conclusions-*/{FOLDER}/{CARD}",
    RELEASED / "pocket-roberta": f"pretrain_roberta/*/{FOLDER}/{CARD}",
    RELEASED / "pocket-vit": f"pretrain_pocket_vit/*/{CARD}",
}


def compared(runs: Path) -> Iterator[str]:
    """Yield a line for every rebuilt backbone in a folder of runs; ZiaError if there is none."""
    found = False
    for released, pattern in MADE.items():
        for path in sorted(runs.glob(pattern)):
            found = True
            yield f"{released.name}: {_line(read_json(path), read_json(released / CARD))}"
    if not found:
        raise ZiaError(f"{runs} holds no run that makes a pocket backbone: run `make backbones`")


def _line(rebuilt: dict[str, Any], released: dict[str, Any]) -> str:
    if rebuilt["sha256"] == released["sha256"]:
        return "the released file, to the byte"
    pairs = (
        (name, share, released["quality"].get(name)) for name, share in rebuilt["quality"].items()
    )
    return "another file; " + ", ".join(
        f"{name} {share:.3f} (released {'-' if before is None else f'{before:.3f}'})"
        for name, share, before in pairs
    )


@guarded()
def main() -> None:
    """Compare the runs in a folder, `results/runs` by default."""
    try:
        for line in compared(
            Path(*sys.argv[1:2]) if sys.argv[1:] else PROJECT / "results" / "runs"
        ):
            tell(line)
    except ZiaError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
