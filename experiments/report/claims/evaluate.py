"""Test claims against the runs of a section, or by arithmetic."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from math import isclose

from experiments.harness.report_info import ReportInfo
from experiments.report import formats, statistics
from experiments.report.claims.definition import Arithmetic, Cause, Claim, Comparison
from experiments.report.claims.finding import Finding, paired, together
from experiments.report.control import expanded, undecided
from experiments.report.measured import Measured, measure
from experiments.report.paper import paper_table
from experiments.report.rows import MIXED, Column, Row, Section, same_inputs
from experiments.report.statistics import DECIDED, FAILS, HOLDS, INCONCLUSIVE, LEVEL, NO_RUNS

SAME = 0.01  # counts that differ by less are level: gates beside as many prompts


def computed(claim: Claim) -> Finding:
    """Return the verdict on an arithmetic claim."""
    return together([_arithmetic(part) for part in claim.parts if isinstance(part, Arithmetic)])


def tested(claim: Claim, section: Section, info: ReportInfo) -> Finding:
    """Return the verdict on a claim from the runs of one section."""
    parts = [part for part in claim.parts if isinstance(part, Comparison)]
    findings = [_compare(part, section, info) for part in parts]
    finding = together(findings)
    cause = claim.cause
    if cause is None or findings[cause.explains(parts)].verdict != FAILS:
        return finding
    return _explained(finding, parts[cause.explains(parts)].ours, cause, section, info)


def _explained(
    finding: Finding, ours: str, cause: Cause, section: Section, info: ReportInfo
) -> Finding:
    """Add what the runs say about a cause, if there are any; `ours` is the claim's method."""
    why = _compare(cause.part, section, info)
    if why.verdict == NO_RUNS:
        return finding
    answer = {HOLDS: "yes", LEVEL: "yes", FAILS: "no"}.get(why.verdict, "open")
    none = 1.0 if cause.part.kind == "ratio" else 0.0
    change = _compare(replace(cause.part, other=ours, margin=none), section, info)
    if answer == "no" and change.verdict == HOLDS:
        answer = "in part"
    return Finding(
        finding.verdict,
        f"{finding.evidence}. {cause.question} {answer}: {why.evidence}",
        f"{finding.in_short}; {cause.question[0].lower()}{cause.question[1:]} {answer}: "
        f"{why.in_short}",
    )


def _arithmetic(part: Arithmetic) -> Finding:
    """K L C + L H, and what is added, in the paper's unit."""
    parameters = part.layers * (part.prompt_length * part.width + part.heads) + part.added
    value = parameters * (part.bytes or 1) / part.per
    table, row, column = part.paper
    cell = paper_table(table).find(row, column)[part.which]
    holds = cell.value is not None and abs(value - cell.value) <= part.margin
    counted = f"{parameters:,} parameters, {value:.2f}"
    return Finding(HOLDS if holds else FAILS, f"{part.label}: {counted}; printed {cell.printed}")


def _compare(part: Comparison, section: Section, info: ReportInfo) -> Finding:
    tasks, remarks = expanded(part.tasks, section, info)
    label = part.label
    if remarks:
        part = replace(part, label=f"{part.label} ({'; '.join(remarks)})")
    methods = (part.ours, part.other)
    found = {method: _rows(section, method, tasks) for method in methods}
    if missing := [method for method in methods if not found[method]]:
        return Finding(NO_RUNS, f"{part.label}: no runs of {' or '.join(missing)}")
    if open_tasks := undecided(part.tasks, section, info):
        why = f"whether {' and '.join(open_tasks)} {'count' if len(open_tasks) > 1 else 'counts'}"
        return Finding(INCONCLUSIVE, f"{part.label}: not known yet {why}")
    for method in methods:
        if len(found[method]) > 1:
            return Finding(INCONCLUSIVE, f"{part.label}: {method} has runs with several settings")
    rows = [found[method][0] for method in methods]
    if part.kind == "sign":
        return _signs(part, rows[0], rows[1], tasks)
    ours, other = (_measured(part, row, tasks) for row in rows)
    pair = tuple(zip(methods, (ours, other), strict=True))
    for method, one in pair:
        if one.state == MIXED:
            return Finding(INCONCLUSIVE, f"{part.label}: seeds of {method} have {MIXED}")
    if not same_inputs(*(row.of(tasks) for row in rows)):
        return Finding(INCONCLUSIVE, f"{part.label}: {' and '.join(methods)} have {MIXED}")
    if ours.mean is None or other.mean is None:
        states = " and ".join(f"{method} {one.state}" for method, one in pair if one.mean is None)
        return Finding(NO_RUNS, f"{part.label}: {states}")
    for method, one in pair:
        if (one.state != "done" or one.failed) and part.kind in ("difference", "ratio"):
            why = f"{method} is {one.state}"
            if one.failed:
                why = f"{one.failed} {'run' if one.failed == 1 else 'runs'} of {method} failed"
            return Finding(INCONCLUSIVE, f"{part.label}: {why}", label, why)
    if part.kind == "equal":
        return _equal(part, ours.values, other.values)
    if part.kind == "exact":
        ahead = (ours.mean > other.mean) == (part.direction == "above")
        verdict = HOLDS if ahead else FAILS
        if isclose(ours.mean, other.mean, rel_tol=SAME):
            verdict = LEVEL
        numbers = f"{ours.mean:,.0f} against {other.mean:,.0f}"
        text, brief = f"{part.label}: {numbers}", f"{numbers} {part.unit}"
        return Finding(verdict, text, brief)
    done = [run for row in rows for run in row.of(tasks).done]
    if part.kind == "ratio" and len({run.hardware for run in done}) > 1:
        return Finding(INCONCLUSIVE, f"{part.label}: measured on different machines")
    if part.kind == "ratio" and not all(run.timed for run in done):
        return Finding(INCONCLUSIVE, f"{part.label}: not timed, as the runs shared their cores")
    beside = _beside(ours.values, rows[1].of(tasks), other.values)
    finding = paired(part, label, ours.values, beside)
    guess = _guess(part, rows[0], tasks, info)
    if finding.verdict not in DECIDED or guess is None or max(ours.mean, other.mean) > guess:
        return finding
    return replace(
        finding,
        evidence=f"{finding.evidence}; neither is better than a guess, {guess:.3f}",
        brief=f"{finding.brief}, neither better than a guess",
    )


def _guess(part: Comparison, row: Row, tasks: Sequence[str], info: ReportInfo) -> float | None:
    """What answers without any knowledge score, where runs recorded it."""
    fields = info.guesses.get(part.field, ())
    found = [_measured(replace(part, field=field), row, tasks).mean for field in fields]
    return max((one for one in found if one is not None), default=None)


def _beside(seeds: Iterable[int], row: Row, values: dict[int, float]) -> dict[int, float]:
    """The other method's values by seed; without training, its one value stands for all seeds."""
    trained = any(run.value("tuned_parameters") != 0 for run in row.done)
    return values if trained or len(values) > 1 else dict.fromkeys(seeds, *values.values())


def _equal(part: Comparison, ours: dict[int, float], other: dict[int, float]) -> Finding:
    values = {*ours.values(), *other.values()}
    spread = max(values) - min(values)
    text = f"{part.label}: largest difference {spread:g} {part.unit}, n={len(ours)}"
    return Finding(HOLDS if len(values) == 1 else FAILS, text)


def _signs(part: Comparison, ours: Row, other: Row, tasks: Sequence[str]) -> Finding:
    differences = []
    for task in tasks:
        one, two = (_measured(part, row, (task,)) for row in (ours, other))
        if one.mean is None or two.mean is None or {one.state, two.state} != {"done"}:
            continue
        if one.failed or two.failed or not same_inputs(ours.of((task,)), other.of((task,))):
            continue
        difference = one.mean - two.mean
        differences.append(difference if part.direction == "above" else -difference)
    if not differences:
        return Finding(NO_RUNS, f"{part.label}: no task that both have")
    wins, untied, p = statistics.sign_test(differences)
    text = f"{part.label}: ahead on {wins} of {len(differences)} tasks, sign test p = {p:.3g}"
    if len(differences) < len(tasks):
        left = len(tasks) - len(differences)
        return Finding(
            INCONCLUSIVE,
            f"{text}; {left} tasks are missing, failed, not trained, or have {MIXED}",
        )
    verdict = statistics.sign_verdict(wins, untied, p)
    if verdict == INCONCLUSIVE:
        least = statistics.wins_needed(untied)
        enough = next(n for n in count(untied) if statistics.wins_needed(n))
        text += f"; {least} of {untied} would have decided" if least else f"; {enough} tasks needed"
    return Finding(verdict, text)


def _measured(part: Comparison, row: Row, tasks: Sequence[str]) -> Measured:
    column = Column(
        part.field, part.label, part.unit, formats.number, scale=part.scale, tasks=tuple(tasks)
    )
    return measure(row, column)


def _rows(section: Section, method: str, tasks: Sequence[str]) -> list[Row]:
    """The rows of a method with finished runs of these tasks."""
    return [row for row in section.rows if row.method == method and row.of(tasks).done]
