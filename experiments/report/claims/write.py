"""Write `claims.md`: every claim with its verdict, profile by profile."""

from collections.abc import Sequence
from pathlib import Path

from experiments.io.files import check_output, write_atomic
from experiments.report.claims.results import Result, results_of
from experiments.report.document import Document, Grid, Part, markdown
from experiments.report.runs import PROFILE_ORDER, Runs, read_runs

NAME = "claims.md"
INTRO = (
    "By the 95 % t-interval of paired seed differences, from 5 seeds on. holds: it is on the "
    "claimed side of the margin; does not hold: on the other side; level: neither, but the methods "
    "differ by less than a band (2 points, 0.1 nats); else inconclusive, with the smallest "
    "difference that these seeds would have shown, in 4 of 5 repeats. Across tasks: the sign test. "
    "A method that was not trained decides nothing. Margins and bands are ours, declared before "
    "the runs; the paper reports no spread. Every claim stays here, whatever became of it."
)
ARITHMETIC = "Arithmetic, at the shape of LLaMA-7B"


def findings(roots: Sequence[Path], *, keep_going: bool = False) -> Document:
    """Return every claim with its verdict; ZiaError names a damaged run."""
    return findings_of(read_runs(roots, keep_going=keep_going))


def findings_of(runs: Runs) -> Document:
    """Return every claim with its verdict, from runs that were read before."""
    return document(results_of(runs), tuple(s for _, s in sorted(runs.damaged.items())))


def document(results: Sequence[Result], damaged: tuple[str, ...] = ()) -> Document:
    """Return results as a document, with a sentence for each run that was left out."""
    profiles = list(dict.fromkeys(result.profile for result in results))
    parts = [
        _part(profile or ARITHMETIC, [r for r in results if r.profile == profile])
        for profile in profiles
    ]
    absent = [profile for profile in PROFILE_ORDER if profile not in profiles]
    return Document(
        name="claims",
        title="What the paper claims, and what these runs say",
        intro=INTRO,
        parts=tuple(parts),
        sources=f"Profiles without runs: {', '.join(absent) or 'none'}.",
        cells=(),
        damaged=damaged,
    )


def write_claims(
    roots: Sequence[Path], out: Path, *, keep_going: bool = False
) -> tuple[Path, list[str]]:
    """Write `claims.md`; return its path, and one line per claim, by profile."""
    check_output(out)
    return write_findings(findings(roots, keep_going=keep_going), out)


def write_findings(document: Document, out: Path) -> tuple[Path, list[str]]:
    """Write claims that were tested before, as `write_claims` does."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / NAME, markdown(document))
    lines = []
    for part in document.parts:
        lines.append(f"{part.title}:")
        for sentence, _, verdict, runs, evidence in part.grids[0].lines:
            about = "; ".join(str(text) for text in (runs, evidence) if text)
            lines.append(f"  {verdict}: {sentence}" + (f" [{about}]" if about else ""))
    return out / NAME, [*lines, document.sources]


def _part(title: str, results: Sequence[Result]) -> Part:
    header = ("claim", "source", "verdict", "runs", "evidence")
    lines = tuple(
        (
            result.claim.sentence,
            result.claim.source,
            result.verdict,
            result.section,
            result.finding.evidence or f"needs {result.claim.needs}",
        )
        for result in results
    )
    return Part((Grid(header, lines),), title)
