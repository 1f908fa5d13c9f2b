"""Write `claims.md`: every claim with its verdict, profile by profile."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.harness.report_info import ReportInfo
from experiments.io.files import check_output, write_atomic
from experiments.report.claims.definition import Claim, Comparison, read_claims
from experiments.report.claims.evaluate import Finding, computed, tested
from experiments.report.document import Document, Grid, Part, markdown
from experiments.report.experiments import final_runs, lines, report_infos
from experiments.report.rows import SECTION_OF_TASKS, Section, sections
from experiments.report.runs import PROFILE_ORDER, Run, Runs, read_runs
from experiments.report.statistics import NO_RUNS

NAME = "claims.md"
INTRO = (
    "By the 95 % t-interval of paired seed differences, from 5 seeds on. holds: it is on the "
    "claimed side of the margin; does not hold: on the other side; level: neither, but the methods "
    "differ by less than a band (2 points, 0.1 nats); else inconclusive, with the "
    "difference from the margin that these seeds show in 4 of 5 repeats. Across tasks: the sign "
    "test. A method that was not trained decides nothing. Margins and bands are ours, declared "
    "before the runs; the paper reports no spread. A claim stays here whatever becomes of it."
)
ARITHMETIC = "Arithmetic, at the shape of LLaMA-7B"


def findings(roots: Sequence[Path], *, keep_going: bool = False) -> Document:
    """Return every claim with its verdict; ZiaError names a damaged run."""
    return findings_of(read_runs(roots, keep_going=keep_going))


def findings_of(runs: Runs) -> Document:
    """Return every claim with its verdict, from runs that were read before."""
    claims = read_claims()
    infos = {
        name: info
        for name, info in report_infos().items()
        if any(claim.experiment == name for claim in claims)
    }
    found = {name: _sections(runs, name, info, claims) for name, info in infos.items()}
    profiles = _profiles(found)
    parts = [_part(ARITHMETIC, [(c, "", computed(c)) for c in claims if c.computed])]
    for profile in profiles:
        parts.append(_part(profile, list(_of_profile(profile, claims, infos, found))))
    absent = [profile for profile in PROFILE_ORDER if profile not in profiles]
    return Document(
        name="claims",
        title="What the paper claims, and what these runs say",
        intro=INTRO,
        parts=tuple(parts),
        sources=f"Profiles without runs: {', '.join(absent) or 'none'}.",
        cells=(),
        damaged=tuple(sentence for _, sentence in sorted(runs.damaged.items())),
    )


def write_claims(
    roots: Sequence[Path], out: Path, *, keep_going: bool = False
) -> tuple[Path, list[str]]:
    """Write `claims.md`; return its path, and one line per claim, by profile."""
    check_output(out)
    document = findings(roots, keep_going=keep_going)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / NAME, markdown(document))
    lines = []
    for part in document.parts:
        lines.append(f"{part.title}:")
        for sentence, _, verdict, runs, evidence in part.grids[0].lines:
            about = "; ".join(str(text) for text in (runs, evidence) if text)
            lines.append(f"  {verdict}: {sentence}" + (f" [{about}]" if about else ""))
    return out / NAME, [*lines, document.sources]


def _part(title: str, rows: list[tuple[Claim, str, Finding]]) -> Part:
    header = ("claim", "source", "verdict", "runs", "evidence")
    lines = tuple(
        (
            claim.sentence,
            claim.source,
            finding.verdict,
            where,
            finding.evidence or f"needs {claim.needs}",
        )
        for claim, where, finding in rows
    )
    return Part((Grid(header, lines),), title)


def _of_profile(
    profile: str,
    claims: Sequence[Claim],
    infos: dict[str, ReportInfo],
    found: dict[str, list[Section]],
) -> Iterator[tuple[Claim, str, Finding]]:
    """A finding for each section that has runs of the claim, or one that says there are none."""
    for claim in claims:
        if claim.computed:
            continue
        name = claim.experiment or ""
        here = [s for s in found.get(name, []) if s.key["profile"] == profile]
        tests = [(claim, _name(section), tested(claim, section, infos[name])) for section in here]
        told = [test for test in tests if test[2].verdict != NO_RUNS]
        yield from told or [(claim, "", Finding(NO_RUNS, ""))]


def _name(section: Section) -> str:
    key = section.key
    return f"{key['backbone']}, {key['data']}, version {key['version']}"


def _sections(
    runs: Runs, experiment: str, info: ReportInfo, claims: Sequence[Claim]
) -> list[Section]:
    parts = [part for claim in claims if claim.experiment == experiment for part in claim.parts]
    fields = {part.field: part.if_there for part in parts if isinstance(part, Comparison)}
    newer = sorted(name for name, if_there in fields.items() if if_there)
    found = final_runs(runs, experiment, info, sorted(fields), newer)
    shown = with_lines(info, found)
    return [s for s in sections(shown, (), SECTION_OF_TASKS, info.trained) if s.key]


def with_lines(info: ReportInfo, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have a score, and every run again for each table line that it is."""
    scored = [run for run in runs if not info.score.tasks or run.task in info.score.tasks]
    return [*scored, *(run for name in info.lines for run in lines(info, name, runs))]


def _profiles(found: dict[str, list[Section]]) -> list[str]:
    seen = {section.key["profile"] for of_one in found.values() for section in of_one}
    known = [profile for profile in PROFILE_ORDER if profile in seen]
    return known + sorted(seen - set(PROFILE_ORDER))
