"""What was found about a claim, and the finding of two methods that are compared seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from experiments.metrics.intervals import t_interval
from experiments.report import statistics
from experiments.report.claims.definition import Comparison
from experiments.report.statistics import INCONCLUSIVE, LEVEL, NO_RUNS

MOST_PLACES = 6


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim or on one of its parts, and the numbers that decided."""

    verdict: str
    evidence: str
    brief: str = ""  # in a few words, of the parts that decide, if it can be shorter
    remark: str = ""  # why the brief leaves the claim open; parts in a row may share it

    @property
    def in_short(self) -> str:
        """The evidence, as short as it comes."""
        return (self.brief or self.evidence) + (f" ({self.remark})" if self.remark else "")


def together(findings: Sequence[Finding]) -> Finding:
    """Return the finding of a claim from those of its parts."""
    verdict = statistics.all_of([finding.verdict for finding in findings])
    if verdict == NO_RUNS:
        return Finding(verdict, "")
    several = len(findings) > 1
    texts = [f"{f.evidence} ({f.verdict})" if several else f.evidence for f in findings]
    deciding = [f for f in findings if f.verdict == verdict] or findings
    # Parts in a row that are open for the same reason give it once, after the last of them.
    remarks = [f.remark for f in deciding]
    shown = [
        replace(f, remark="") if f.remark == after else f
        for f, after in zip(deciding, [*remarks[1:], None], strict=True)
    ]
    return Finding(verdict, "; ".join(texts), "; ".join(f.in_short for f in shown))


def paired(
    part: Comparison, label: str, ours: dict[int, float], other: dict[int, float]
) -> Finding:
    """The t-interval of the differences over seeds that both have."""
    pairs = [(ours[seed], other[seed]) for seed in sorted(ours.keys() & other.keys())]
    values = [a / b if part.kind == "ratio" else a - b for a, b in pairs]
    same = 1.0 if part.kind == "ratio" else 0.0
    band = (same - part.band, same + part.band)
    verdict = statistics.verdict(values, part.direction, part.margin, band)
    if not values:
        return Finding(NO_RUNS, f"{part.label}: no seed that both have")
    unit = f" {part.unit}" if part.unit else ""
    sign = "" if part.kind == "ratio" else "+"
    text = f"{part.label}: {mean(values):{sign}.3f}{unit} against {part.other}"
    if part.kind == "ratio":
        text = f"{part.label}: {mean(values):.3f}"
    if len(values) > 1:
        low, high = t_interval(values)
        text += f", 95 % interval {low:{sign}.3f} to {high:{sign}.3f}"
    if part.margin:
        text += f", wanted {part.direction} {part.margin:g}"
    if verdict != INCONCLUSIVE:
        text += f", n={len(values)}"
    if verdict == LEVEL:
        text += f"; within {band[0]:g} and {band[1]:g}{unit}"
    elif verdict == INCONCLUSIVE:
        text += f"; {_missed(part, values, 3)}"
    places = 1 if part.unit == "points" else 2
    remark = _missed(part, values, places) if verdict == INCONCLUSIVE else ""
    return Finding(verdict, text, _brief(label, part, values, places), remark)


def _missed(part: Comparison, values: Sequence[float], places: int) -> str:
    """What these seeds would have shown, or how many are needed to show anything."""
    n = len(values)
    if n < statistics.ENOUGH:
        return f"{n} {'seed' if n == 1 else 'seeds'}, {statistics.ENOUGH} needed"
    from_margin = f" from the margin, {part.margin:g}" if part.margin else ""
    least = f"{statistics.detectable(values):.{places}f} {part.unit}".rstrip()
    return f"{n} seeds would have shown {least} or more{from_margin}"


def _brief(label: str, part: Comparison, values: Sequence[float], places: int) -> str:
    """The mean and its interval, as "accuracy: +1.2 [+0.4, +2.0] points"."""

    ends = t_interval(values) if len(values) >= statistics.ENOUGH else ()
    # An end that is not "no difference" is not printed as if it were.
    while places < MOST_PLACES and any(end and not round(end, places) for end in ends):
        places += 1

    def short(value: float) -> str:
        rounded = round(value, places) + 0.0  # no -0.0
        return f"{rounded:{'' if part.kind == 'ratio' else '+'}.{places}f}"

    interval = f" [{', '.join(map(short, ends))}]" if ends else ""
    return f"{label}: {short(mean(values))}{interval} {part.unit}".rstrip()
