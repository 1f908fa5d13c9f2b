"""Write the table of zia_core/docs/models.md: `python -m tests.zia_core.families_table`."""

from collections.abc import Iterator
from pathlib import Path

from tests.zia_core.family_checks import check
from tests.zia_core.family_models import MODELS, Model

PAGE = Path(__file__).parents[2] / "zia_core/docs/models.md"
START, END = "<!-- families -->\n", "<!-- end of families -->\n"
KINDS = {"decoder": "Decoders", "encoder": "Encoders of text", "image": "Encoders of images"}


def table() -> str:
    """One line for each attention class, from checks that pass."""
    lines = ["| | attention class | models and options tested | to |", "| --- | --- | --- | --- |"]
    before = ""
    for kind, attention, models in rows():
        labels = "; ".join(model.label for model in models)
        tolerance = f"{max(model.tolerance for model in models):.0e}"
        lines.append(
            f"| {KINDS[kind] * (kind != before)} | `{attention}` | {labels} | {tolerance} |"
        )
        before = kind
    return "\n".join(lines) + "\n"


def rows() -> Iterator[tuple[str, str, list[Model]]]:
    grouped: dict[tuple[str, str], list[Model]] = {}
    for model in MODELS:
        errors = check(model)
        assert errors.within(model.tolerance), f"{model.label}: {errors}"
        grouped.setdefault((model.kind, errors.attention), []).append(model)
    for (kind, attention), models in grouped.items():
        yield kind, attention, models


def split(text: str) -> tuple[str, str, str]:
    """The page before, in and after the table."""
    before, rest = text.split(START)
    inside, after = rest.split(END)
    return before + START, inside, END + after


if __name__ == "__main__":
    before, _, after = split(PAGE.read_text("utf-8"))
    PAGE.write_text(before + table() + after, "utf-8")
