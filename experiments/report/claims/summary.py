"""Say in a few lines what the published runs of a profile decide."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.harness import archive, registry
from experiments.report.claims.matrix import matrix, profiles_of
from experiments.report.claims.results import Result, results_of
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
    results = results_of(runs)
    if profile not in profiles_of(results):
        return
    yield decided(results, profile)
    for verdict in DECIDED:
        for line in matrix(results):
            if line.verdict(profile) == verdict:
                yield f"  {verdict:13}  {line.claim.title}"


def decided(results: Sequence[Result], profile: str) -> str:
    """Return "mini decides 20 of 24 claims: 9 hold, 7 do not hold, 4 level"."""
    claims = {result.claim.id for result in results if result.profile == profile}
    counts = Counter(line.verdict(profile) for line in matrix(results))
    said = ", ".join(
        f"{counts[verdict]} {verdict if counts[verdict] == 1 else plural}"
        for verdict, plural in PLURALS.items()
    )
    total = sum(counts[verdict] for verdict in DECIDED)
    return f"{profile} decides {total} of {len(claims)} claims: {said}"
