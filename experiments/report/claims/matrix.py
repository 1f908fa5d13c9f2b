"""The matrix of claims by profiles, and how each verdict is shown everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from experiments.report.claims.definition import Claim
from experiments.report.claims.results import Result
from experiments.report.statistics import DECIDED, FAILS, HOLDS, INCONCLUSIVE, LEVEL, NO_RUNS


class Look(NamedTuple):
    """A sign, one for Markdown, and colours: Okabe and Ito's, darkened for white ink.

    The word of a verdict is always beside them, so no reader has to tell colours apart.
    """

    sign: str
    emoji: str
    ground: str
    ink: str


LOOKS = {
    HOLDS: Look("✓", "✅", "#007A59", "#FFFFFF"),
    FAILS: Look("✗", "❌", "#B84E00", "#FFFFFF"),
    LEVEL: Look("≈", "🟦", "#0064A3", "#FFFFFF"),
    INCONCLUSIVE: Look("?", "⬜", "#E2E2E2", "#333333"),
    NO_RUNS: Look("-", "", "#FFFFFF", "#333333"),
}


@dataclass(frozen=True)
class Line:
    """A claim with its results in each profile."""

    claim: Claim
    results: dict[str, list[Result]]

    def verdict(self, profile: str) -> str:
        """Return the verdict in a profile.

        Of several sections, those that decide do; if these disagree, it is inconclusive.
        """
        found = {result.verdict for result in self.results[profile]}
        decided = found & set(DECIDED)
        if found == {NO_RUNS}:
            return NO_RUNS
        return decided.pop() if len(decided) == 1 else INCONCLUSIVE


def profiles_of(results: Sequence[Result]) -> list[str]:
    """Return the profiles that have runs, in their order."""
    return list(dict.fromkeys(result.profile for result in results if result.profile))


def matrix(results: Sequence[Result]) -> list[Line]:
    """Return a line for each claim that needs runs and has some, in the order of the claims."""
    profiles = profiles_of(results)
    claims = {result.claim.id: result.claim for result in results if result.profile}
    lines = [
        Line(
            claim,
            {
                profile: [r for r in results if r.profile == profile and r.claim.id == claim.id]
                for profile in profiles
            },
        )
        for claim in claims.values()
    ]
    return [line for line in lines if {line.verdict(p) for p in profiles} != {NO_RUNS}]
