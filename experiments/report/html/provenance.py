"""Where numbers are from: the code, machines, data and weights of each experiment."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.report.html.browser import Listed

# Hashes are shortened here; the lines of the runs have all digits.
HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")


@dataclass(frozen=True)
class Origin:
    """The runs of one experiment: their states, and what they were made with."""

    experiment: str
    states: str
    profiles: tuple[str, ...]
    seeds: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]  # name, and all values


def origins(lines: Sequence[Listed]) -> list[Origin]:
    """Return one origin per experiment, in the order of the lines."""
    names = dict.fromkeys(line.run.experiment for line in lines)
    return [
        _origin(name, [line for line in lines if line.run.experiment == name]) for name in names
    ]


def _origin(name: str, lines: Sequence[Listed]) -> Origin:
    states = Counter(line.run.state for line in lines)
    facts: dict[str, dict[str, None]] = {}
    for line in lines:
        facts.setdefault("version of the experiment", {})[str(line.run.version)] = None
        facts.setdefault("backbone", {})[line.run.backbone] = None
        facts.setdefault("data", {})[line.run.data] = None
        for fact, value in line.details["environment"].items():
            short = _shortened(value) if fact.startswith("hash") or fact == "code" else value
            facts.setdefault(fact, {})[short] = None
    return Origin(
        experiment=name,
        states=", ".join(f"{count} {state}" for state, count in sorted(states.items())),
        profiles=tuple(dict.fromkeys(line.run.profile for line in lines)),
        seeds=", ".join(map(str, sorted({line.run.seed for line in lines}))),
        facts=tuple((fact, tuple(values)) for fact, values in facts.items()),
    )


def _shortened(text: str) -> str:
    return HASH.sub(r"\1", text)
