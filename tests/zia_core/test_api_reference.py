"""The committed API reference is that of the docstrings, and these are complete."""

import ast
import inspect
import re

import pytest

from tests.zia_core import api_reference, docstrings
from tests.zia_core.api_reference import DOCS, methods, public_modules
from tests.zia_core.api_reference import public_names as names_of
from tests.zia_core.signatures import parameters, signature

NAMES = {f"{e.module}.{e.name}": e for module in public_modules() for e in names_of(module)}


def test_the_committed_pages_are_those_of_the_docstrings() -> None:
    written = {path.name: path.read_text("utf-8") for path in DOCS.iterdir()}
    written.pop("models.md")
    assert written == api_reference.pages(), "run make docs"


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_is_complete(name: str) -> None:
    """Args has every parameter and no other, Attributes every field of a dataclass."""
    each = NAMES[name]
    for value, node in [(each.value, each.node), *methods(each)]:
        own = inspect.getdoc(value) or ""
        assert api_reference.summary(own).endswith((".", ":"))
        parts = docstrings.sections(own)
        listed, given = entries(parts, "Args"), [each.arg for each in parameters(node)]
        if listed or (len(given) > 1 and each.node is node):
            assert sorted(listed) == sorted(given)
        if isinstance(node, ast.ClassDef):
            fields = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign)]
            assert entries(parts, "Attributes") == fields or not fields


def entries(parts: dict[str, str], heading: str) -> list[str]:
    found = docstrings.items(parts.get(heading, ""))
    return [name for names, _ in found for name in names.split(", ")]


def test_what_is_public_is_what_users_are_sent_to() -> None:
    assert public_modules() == [
        "zia_core", *(f"zia_core.{name}" for name in (
            "baselines", "convert", "engine", "four_bit", "hf_accelerate", "hf_trainer",
            "kernel_choice", "losses", "observe", "optim", "ranks", "sharding", "step_memory",
        ))
    ]  # fmt: skip


def test_links_lead_to_headings() -> None:
    pages = api_reference.pages()
    for page in pages.values():
        for file, anchor in re.findall(r"\]\(((?:\w+\.md)?)#(\w+)\)", page):
            headings = re.findall("^#+ (.*)$", pages[file] if file else page, re.M)
            assert anchor in map(api_reference.anchor, headings)


def test_markdown_of_a_docstring() -> None:
    text = """Scale `x` by 2*a*b.

    More, with ``code``.

    Args:
        x: [B, C], for
            `attach`.
        a, b: factors.

    Returns:
        A tensor.

    Raises:
        ZiaError: it is <0.
    """
    linked = docstrings.markdown(inspect.cleandoc(text), lambda code: f"[`{code}`]")
    assert linked == (
        "Scale [`x`] by 2\\*a\\*b.\n\nMore, with [`code`].\n\n"
        "**Args**\n\n- `x`: [B, C], for [`attach`].\n- `a`, `b`: factors.\n\n"
        "**Returns**\n\nA tensor.\n\n**Raises**\n\n- `ZiaError`: it is \\<0.\n"
    )


def sample(values: list[int], *, wide: bool = False, **more: int) -> list[int] | None:
    """A function to be written down."""
    return values if wide else None


def test_a_signature_is_that_of_the_source() -> None:
    (node,) = ast.parse(inspect.getsource(sample)).body
    assert isinstance(node, ast.FunctionDef)
    assert signature("tests", node) == (
        "def sample(values: list[int], *, wide: bool = False, **more: int) -> list[int] | None"
    )
    assert "-> nn.Module" in api_reference.pages()["zia_core.md"]  # and not our type variable
