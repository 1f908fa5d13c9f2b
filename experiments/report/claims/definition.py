"""Read the paper's claims, `claims.json`: what each says, and what would show it.

A claim holds if all of its parts hold. The kinds of parts, which compare the methods `ours` and
`other` on the mean of `tasks`:

- difference: ours minus other, seed by seed, is above (or below) `margin`
- ratio: the same for ours over other
- sign: ours is above other on most tasks, by the sign test
- equal: no seed differs at all
- exact: ours is above (or below) other, in numbers without spread; level within 1 %
- arithmetic: a number of the paper follows from the shape of the model, to within `margin`

The verdicts on differences and ratios also use `band`, as `statistics.verdict` says: methods are
level if they differ by less. It is the same for every claim with one unit: 2 points of accuracy,
exact match, F1, BLEU or ROUGE-L, 10 of CIDEr (whose scale is about five times as long), 0.1 nats of
a loss, and 5 % of a ratio. Margins and bands are ours: the paper reports no spread. They are
declared before the runs that they judge, and not changed after; that counts within 1 % are level is
younger than the runs.

A `cause` is a question that a further comparison answers: yes if that holds or is level; with a
`band` of 0, level is no answer. In part: it does not hold, but its method is ahead of the claim's.
It is asked where runs contradict the part of the claim whose label is `about`, by default the one
that compares the same field with the same method on the same tasks, or else the first.

A task may be a group, as `@small`. `ours` and `other` are methods, or lines of a table whose lines
are not methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from experiments.io.files import read_json
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

FILE = Path(__file__).with_name("claims.json")
LONGEST_TITLE = 34


@dataclass(frozen=True)
class Arithmetic:
    """A number of the paper that follows from K, L, C and H."""

    label: str
    prompt_length: int  # K
    layers: int  # L
    width: int  # C
    heads: int  # H, gates per layer
    added: int  # parameters besides prompts and gates
    bytes: int  # per parameter; 0 counts parameters
    per: float  # the paper's unit, as 1e6 for M
    margin: float  # half of the last printed digit; a whole one where `added` is inferred
    paper: tuple[str, str, str]  # table, row, column
    which: int  # of the numbers that the paper prints there


@dataclass(frozen=True)
class Comparison:
    """Two methods compared in a field of their results."""

    label: str
    kind: Literal["difference", "ratio", "sign", "equal", "exact"]
    field: str
    ours: str
    other: str
    direction: Literal["above", "below"]
    margin: float  # in `unit`; negative with "above": by how much worse still counts as good
    band: float  # in `unit`, or of a ratio; how little difference is none; 0: never level
    unit: str
    tasks: tuple[str, ...]
    scale: float
    if_there: bool  # older runs lack the field


@dataclass(frozen=True)
class Cause:
    """Why a claim may not hold, and what would show it."""

    question: str
    part: Comparison
    about: str = ""  # the label of the part that it explains

    def explains(self, parts: Sequence[Comparison]) -> int:
        """The number of the claim's part that it explains."""
        if self.about:
            return [part.label for part in parts].index(self.about)
        measured = [(part.field, part.other, part.tasks) for part in parts]
        ours = (self.part.field, self.part.other, self.part.tasks)
        return measured.index(ours) if ours in measured else 0


@dataclass(frozen=True)
class Claim:
    """One claim; without parts it cannot be tested yet."""

    id: str
    title: str  # a few words
    sentence: str
    source: str
    experiment: str | None  # None: no runs are needed, or none can be read yet
    needs: str  # what it takes to test it
    parts: tuple[Arithmetic | Comparison, ...]
    cause: Cause | None = None

    @property
    def computed(self) -> bool:
        """Whether the claim is arithmetic, which needs no runs."""
        return bool(self.parts) and isinstance(self.parts[0], Arithmetic)


def read_claims(path: Path = FILE) -> list[Claim]:
    """Return all claims in their order; ZiaError names a malformed one."""
    kinds = get_type_hints(Claim) | {"parts": list, "cause": dict}
    stored = conform_fields({"claims": list}, read_json(path), str(path))["claims"]
    claims = []
    for number, one in enumerate(stored):
        fields = conform_fields(kinds, {"cause": {}} | one, f"{path}, claim {number}")
        where = f"{path}, claim {fields['id']}"
        parts = tuple(_part(part, where) for part in fields.pop("parts"))
        cause = _cause(fields.pop("cause"), parts, where)
        claims.append(Claim(**fields, parts=parts, cause=cause))
        if len(claims[-1].title) > LONGEST_TITLE:
            raise ZiaError(
                f"{path}, claim {fields['id']}: its title has over {LONGEST_TITLE} letters"
            )
    if len({claim.id for claim in claims}) < len(claims):
        raise ZiaError(f"{path}: two claims have one id")
    return claims


def _cause(
    stored: dict[str, Any], parts: Sequence[Arithmetic | Comparison], where: str
) -> Cause | None:
    if not stored:
        return None
    kinds = {"question": str, "part": dict, "about": str}
    fields = conform_fields(kinds, {"about": ""} | stored, f"{where}, its cause")
    part = _part(fields.pop("part"), f"{where}, its cause", level=False)
    if not isinstance(part, Comparison):
        raise ZiaError(f"{where}: a cause is tested by a comparison")
    if fields["about"] not in ("", *(part.label for part in parts)):
        raise ZiaError(f"{where}: its cause is about {fields['about']!r}, which is no part of it")
    return Cause(part=part, **fields)


def _part(stored: dict[str, Any], where: str, *, level: bool = True) -> Arithmetic | Comparison:
    """Read a part; without `level`, a difference may have no band."""
    if stored.get("kind") == "arithmetic":
        return Arithmetic(
            **conform_fields(get_type_hints(Arithmetic), {"which": 0} | stored, where)
        )
    usual = {"band": 0.0, "scale": 1.0, "tasks": [], "if_there": False}
    part = Comparison(**conform_fields(get_type_hints(Comparison), usual | stored, where))
    banded = part.kind in ("difference", "ratio")
    if (part.band > 0) != banded and (level or not banded):
        raise ZiaError(f"{where}: a difference or a ratio has a positive band, no other part one")
    return part
