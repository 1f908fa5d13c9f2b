"""The matrix of claims by profiles, and its figure."""

from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from experiments.report.claims.matrix import LOOKS, matrix, profiles_of
from experiments.report.claims.results import results_of
from experiments.report.figures import verdicts
from experiments.report.runs import read_runs
from experiments.report.statistics import ORDER
from tests.report.run_folders import write_squad

NOISE = (-0.2, -0.1, 0.0, 0.1, 0.2)
CLAIM = "random-init-squad"


def write(root: Path, ahead: float, seeds: int = 5, **changes: str) -> None:
    for seed, noise in enumerate(NOISE[:seeds]):
        score = 50 + ahead + noise
        write_squad(root, "zero-init", "squad-v1.1", seed, score, **changes)
        write_squad(root, "p-tuning-v2", "squad-v1.1", seed, 50, **changes)


def verdict(root: Path, profile: str) -> str:
    lines = matrix(results_of(read_runs([root])))
    [line] = [line for line in lines if line.claim.id == CLAIM]
    return line.verdict(profile)


def test_every_verdict_has_a_sign_and_a_colour_of_its_own() -> None:
    assert list(LOOKS) == list(ORDER)
    for looks in zip(*LOOKS.values(), strict=True):
        assert len(set(looks)) == len(LOOKS) or set(looks) == {"#FFFFFF", "#333333"}


def contrast(one: str, two: str) -> float:
    """The contrast ratio of WCAG 2."""
    from matplotlib.colors import to_rgb

    def luminance(colour: str) -> float:
        parts = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_words_can_be_read_on_their_colours() -> None:
    assert min(contrast(look.ink, look.ground) for look in LOOKS.values()) >= 4.5


def test_a_claim_without_runs_in_any_profile_has_no_line(tmp_path: Path) -> None:
    write(tmp_path, 3.0, profile="mini")
    lines = matrix(results_of(read_runs([tmp_path])))
    assert {line.claim.experiment for line in lines} == {"squad_roberta"}
    assert matrix(results_of(read_runs([tmp_path / "none"]))) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((3.0, 5), (3.0, 5), "holds"),
        ((3.0, 5), (0.0, 3), "holds"),  # one that is open takes nothing away
        ((3.0, 5), (-3.0, 5), "inconclusive"),
        ((0.0, 5), (0.0, 2), "level"),
        ((3.0, 3), (3.0, 4), "inconclusive"),
    ],
)
def test_sections_of_a_profile_have_one_verdict(
    tmp_path: Path, first: tuple[float, int], second: tuple[float, int], expected: str
) -> None:
    for data, (ahead, seeds) in (("full", first), ("reduced-1", second)):
        write(tmp_path, ahead, seeds, data=data)
    assert verdict(tmp_path, "small") == expected


def test_the_figure_has_a_cell_with_word_and_colour_for_each_verdict(tmp_path: Path) -> None:
    for profile, ahead in (("mini", 3.0), ("small", 0.0), ("paper", -3.0)):
        write(tmp_path, ahead, profile=profile)
    runs = read_runs([tmp_path])
    assert profiles_of(results_of(runs)) == ["mini", "small", "paper"]
    [drawn] = verdicts.draw(runs)
    assert drawn.name == "verdicts"
    panels = drawn.figure.axes
    texts = [text.get_text() for panel in panels for text in panel.texts]
    place = texts.index("Beats random init: SQuAD")
    assert place >= 0
    for word, colour in (("✓ holds", "#007a59"), ("≈ level", "#0064a3")):
        assert word in texts
        assert colour in {to_hex(cell.get_facecolor()) for p in panels for cell in p.patches}
    assert "✗ does not hold" in texts
    count = sum(len(panel.patches) for panel in panels)
    assert count == 3 * sum(
        text in {line.claim.title for line in matrix(results_of(runs))} for text in texts
    )


def test_without_runs_there_is_no_figure(tmp_path: Path) -> None:
    assert list(verdicts.draw(read_runs([tmp_path]))) == []
