"""Test every claim in every profile that has runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.harness.report_info import ReportInfo
from experiments.report.claims.definition import Claim, Comparison, read_claims
from experiments.report.claims.evaluate import computed, tested
from experiments.report.claims.finding import Finding
from experiments.report.experiments import final_runs, lines, report_infos
from experiments.report.rows import SECTION_OF_TASKS, Section, sections
from experiments.report.run import Run
from experiments.report.runs import PROFILE_ORDER, Runs
from experiments.report.statistics import NO_RUNS


@dataclass(frozen=True)
class Result:
    """The verdict on a claim in one section of a profile; arithmetic has no profile."""

    claim: Claim
    finding: Finding
    profile: str = ""
    section: str = ""  # empty without runs

    @property
    def verdict(self) -> str:
        """One of `statistics.ORDER`."""
        return self.finding.verdict


def results_of(runs: Runs) -> list[Result]:
    """Return every arithmetic claim, then profile by profile the others.

    A claim has a result for each section that has runs of it, or one that says there are none.
    """
    claims = read_claims()
    infos = {
        name: info
        for name, info in report_infos().items()
        if any(claim.experiment == name for claim in claims)
    }
    found = {name: _sections(runs, name, info, claims) for name, info in infos.items()}
    results = [Result(claim, computed(claim)) for claim in claims if claim.computed]
    for profile in _profiles(found):
        results += _of_profile(profile, claims, infos, found)
    return results


def with_lines(info: ReportInfo, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have a score, and every run again for each table line that it is."""
    scored = [run for run in runs if not info.score.tasks or run.task in info.score.tasks]
    return [*scored, *(run for name in info.lines for run in lines(info, name, runs))]


def _of_profile(
    profile: str,
    claims: Sequence[Claim],
    infos: dict[str, ReportInfo],
    found: dict[str, list[Section]],
) -> Iterator[Result]:
    for claim in claims:
        if claim.computed:
            continue
        name = claim.experiment or ""
        here = [s for s in found.get(name, []) if s.key["profile"] == profile]
        tests = [Result(claim, tested(claim, s, infos[name]), profile, _name(s)) for s in here]
        told = [test for test in tests if test.verdict != NO_RUNS]
        yield from told or [Result(claim, Finding(NO_RUNS, ""), profile)]


def _name(section: Section) -> str:
    key = section.key
    return f"{key['backbone']}, {key['data']}, version {key['version']}"


def _sections(
    runs: Runs, experiment: str, info: ReportInfo, claims: Sequence[Claim]
) -> list[Section]:
    of_it = [claim for claim in claims if claim.experiment == experiment]
    parts = [part for claim in of_it for part in claim.parts]
    parts += [claim.cause.part for claim in of_it if claim.cause]
    fields = {part.field: part.if_there for part in parts if isinstance(part, Comparison)}
    fields |= {name: True for names in info.guesses.values() for name in names}
    newer = sorted(name for name, if_there in fields.items() if if_there)
    found = final_runs(runs, experiment, info, sorted(fields), newer)
    shown = with_lines(info, found)
    return [s for s in sections(shown, (), SECTION_OF_TASKS, info.trained) if s.key]


def _profiles(found: dict[str, list[Section]]) -> list[str]:
    seen = {section.key["profile"] for of_one in found.values() for section in of_one}
    known = [profile for profile in PROFILE_ORDER if profile in seen]
    return known + sorted(seen - set(PROFILE_ORDER))
