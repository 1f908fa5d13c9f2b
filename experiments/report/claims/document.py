"""`claims.md`: every claim with its verdict, profile by profile."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.io.files import check_output, write_atomic
from experiments.report.claims import Claim, Comparison, read_claims
from experiments.report.claims.evaluate import Finding, computed, tested
from experiments.report.claims.statistics import NO_RUNS
from experiments.report.document import Document, Grid, Part, markdown
from experiments.report.rows import (
    SECTION_OF_TASKS,
    Section,
    sections,
    training_fell,
    validation_fell,
)
from experiments.report.runs import PROFILE_ORDER, Run, Runs, read_runs, select
from experiments.report.tables import ablation_rows

NAME = "claims.md"
# Settings of the runs that count.
ONLY: dict[str, dict[str, object]] = {
    "vtab_vit": {"phase": "final"},
    "squad_roberta": {"phase": "final"},
}
# The rule by which a run counts as trained needs these.
LOSSES = {
    "alpaca_llama": ("val_loss_start", "val_loss", "tuned_parameters"),
    "vtab_vit": ("train_loss_first", "train_loss_last"),
    "squad_roberta": ("train_loss_first", "train_loss_last"),
    "scienceqa": ("train_loss_first", "train_loss_last"),
}
# Fields that results of older runs do not have.
NEWER = ("language_loss",)
# Runs of one task that a claim tells apart by more than their method.
ARRANGED: dict[str, Callable[[Sequence[Run]], list[Run]]] = {"scienceqa": ablation_rows.lines}
INTRO = (
    "holds, does not hold: by the 95 % t-interval of paired seed differences, from 5 seeds on; "
    "with fewer, or with the margin inside the interval, inconclusive. Across tasks: the sign "
    "test. A method that was not trained decides nothing. Margins are ours; the paper reports no "
    "spread. A claim stays here whatever becomes of it."
)
ARITHMETIC = "Arithmetic, at the shape of LLaMA-7B"


def findings(roots: Sequence[Path], *, keep_going: bool = False) -> Document:
    """Return every claim with its verdict as a document; ZiaError names a damaged run folder."""
    return findings_of(read_runs(roots, keep_going=keep_going))


def findings_of(runs: Runs) -> Document:
    """Return every claim with its verdict, of runs that are read already."""
    claims = read_claims()
    found = {name: _sections(runs, name, claims) for name in _experiments(claims)}
    profiles = _profiles(found)
    parts = [_part(ARITHMETIC, [(c, "", computed(c)) for c in claims if c.computed])]
    for profile in profiles:
        parts.append(_part(profile, list(_of_profile(profile, claims, found))))
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
    """Write `claims.md`; return its path and a line a claim, by profile."""
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
    profile: str, claims: Sequence[Claim], found: dict[str, list[Section]]
) -> Iterator[tuple[Claim, str, Finding]]:
    """A line for each section that says something about the claim, or one that says no runs."""
    for claim in claims:
        if claim.computed:
            continue
        here = [s for s in found.get(claim.experiment or "", []) if s.key["profile"] == profile]
        lines = [(claim, _name(section), tested(claim, section)) for section in here]
        told = [line for line in lines if line[2].verdict != NO_RUNS]
        yield from told or [(claim, "", Finding(NO_RUNS, ""))]


def _name(section: Section) -> str:
    key = section.key
    return f"{key['backbone']}, {key['data']}, version {key['version']}"


def _experiments(claims: Sequence[Claim]) -> list[str]:
    return list(dict.fromkeys(claim.experiment for claim in claims if claim.experiment))


def _sections(runs: Runs, experiment: str, claims: Sequence[Claim]) -> list[Section]:
    parts = [part for claim in claims if claim.experiment == experiment for part in claim.parts]
    fields = {part.field for part in parts if isinstance(part, Comparison)}
    names: dict[str, Any] = dict.fromkeys(sorted(fields | set(LOSSES[experiment])), float | None)
    newer = {name: names.pop(name) for name in NEWER if name in names}
    found = select(runs, experiment, names, ONLY.get(experiment), newer=newer)
    found = ARRANGED.get(experiment, list)(found)
    fell = validation_fell if experiment == "alpaca_llama" else training_fell
    return [s for s in sections(found, (), SECTION_OF_TASKS, fell) if s.key]


def _profiles(found: dict[str, list[Section]]) -> list[str]:
    seen = {section.key["profile"] for of_one in found.values() for section in of_one}
    known = [profile for profile in PROFILE_ORDER if profile in seen]
    return known + sorted(seen - set(PROFILE_ORDER))
