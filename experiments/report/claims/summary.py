"""Say in a few lines what the published runs of a profile decide."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from experiments.harness import archive, registry
from experiments.report.claims.results import results_of
from experiments.report.runs import read_runs
from experiments.report.statistics import DECIDED, FAILS, HOLDS, LEVEL

PLURALS = {HOLDS: "hold", FAILS: "do not hold", LEVEL: "level"}


def summary(published: Path, profile: str) -> Iterator[str]:
    """Yield how many claims are decided, and a line of at most 80 columns for each of these.

    Reads the profile's archives in `published` and nothing else; without any, yields nothing.
    Damaged runs are left out: `zia verify` names them.
    """
    paths = [published / archive.file_name(name, profile) for name in registry.experiments()]
    runs = read_runs([path for path in paths if path.exists()], keep_going=True)
    results = [result for result in results_of(runs) if result.profile == profile]
    if not results:
        return
    decided = [result for result in results if result.verdict in DECIDED]
    counts = Counter(result.verdict for result in decided)
    said = ", ".join(f"{counts[verdict]} {plural}" for verdict, plural in PLURALS.items())
    yield f"{profile}, as published, decides {len(decided)} of {len(results)} claims: {said}"
    for result in sorted(decided, key=lambda result: DECIDED.index(result.verdict)):
        yield f"  {result.verdict:13}  {result.claim.title}"
