"""READMEs: every link, anchor, path and module that they name is there."""

import ast
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

LONGEST_README = 150  # lines
# Made by commands and kept out of git, so a reader does not find them in a clone.
MADE = ("results/runs/", "results/fresh/", "results/report.html", "weights/", "cluster.toml")
MODULE = re.compile(r"\b(?:zia_core|experiments|benchmarks)(?:\.\w+)+")
IMPORT = re.compile(r"^from ((?:zia_core|experiments|benchmarks)[\w.]*) import ([\w, ]+)$", re.M)


@pytest.fixture(scope="module")
def tracked(repository: Path) -> set[str]:
    """Every tracked file and the folders above it, as paths from the repository's root."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True
    )
    files = [PurePosixPath(name) for name in listed.stdout.split("\0") if name]
    return {str(path) for file in files for path in (file, *file.parents)}


def documents(repository: Path, tracked: set[str]) -> dict[str, str]:
    """The text of every tracked Markdown file."""
    names = sorted(name for name in tracked if name.endswith(".md"))
    assert {"README.md", "CONTRIBUTING.md", "benchmarks/README.md"} <= set(names)
    return {name: (repository / name).read_text("utf-8") for name in names}


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a Markdown file."""
    parsed = MarkdownIt("commonmark").parse(text)
    titles = [b.children or [] for a, b in pairwise(parsed) if a.type == "heading_open"]
    plain = ["".join(token.content for token in title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def resolved(document: str, path: str) -> str:
    """`path`, relative to the document, from the repository's root; "" is the root itself."""
    parts: list[str] = []
    for part in (*PurePosixPath(document).parent.parts, *PurePosixPath(path).parts):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or "."


def broken_links(name: str, texts: dict[str, str], tracked: set[str]) -> list[str]:
    """Links and images of the document whose file is not tracked or that has no such anchor."""
    broken = []
    for token in tokens(texts[name]):
        link = str(token.attrGet("href") or token.attrGet("src") or "")
        parts = urlsplit(link)
        if not link or parts.scheme in ("http", "https"):
            continue
        file = resolved(name, unquote(parts.path)) if parts.path else name
        if file not in tracked or (parts.fragment and parts.fragment not in anchors(texts[file])):
            broken.append(link)
    return broken


def missing_paths(name: str, text: str, tracked: set[str]) -> list[str]:
    """Paths in code spans that are not in the repository.

    A path begins with a folder of the repository's root. A Python file without a folder is beside
    the document, or in a folder beside it. Text of a link is not looked up, since its target is.
    """
    folder = PurePosixPath(name).parent
    near = {file.name for file in map(PurePosixPath, tracked) if folder in file.parents[:2]}
    roots = {path for path in tracked if "/" not in path and f"{path}/" not in MADE}
    missing = []
    linked = False
    for token in tokens(text):
        linked = token.type == "link_open" or (linked and token.type != "link_close")
        path = token.content.rstrip("/")
        if linked or token.type != "code_inline" or not re.fullmatch(r"[\w./-]+", path):
            continue
        if "/" not in path:
            found = not path.endswith(".py") or path in near
        elif path.split("/")[0] in roots:
            found = path in tracked or f"{path}/".startswith(MADE) or path in MADE
        else:
            found = True  # not one of ours
        if not found:
            missing.append(path)
    return missing


def missing_modules(repository: Path, text: str) -> list[str]:
    """Dotted names, in code spans and blocks, that are neither a module nor a name in one."""
    code = [token.content for token in tokens(text) if token.type in ("code_inline", "fence")]
    names = {name for part in code for name in MODULE.findall(part)}
    imports = [found for part in code for found in IMPORT.findall(part)]
    names |= {f"{module}.{name}" for module, listed in imports for name in listed.split(", ")}
    return sorted(name for name in names if not exists(repository, name.split(".")))


def exists(repository: Path, parts: list[str]) -> bool:
    path = repository.joinpath(*parts)
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    above = repository.joinpath(*parts[:-1])
    file = above / "__init__.py" if above.is_dir() else above.with_suffix(".py")
    return file.is_file() and parts[-1] in names_in(file)


def names_in(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # __all__ and the tables of lazy imports
    return names


def test_every_link_anchor_and_image_is_in_the_repository(
    repository: Path, tracked: set[str]
) -> None:
    texts = documents(repository, tracked)
    broken = {name: broken_links(name, texts, tracked) for name in texts}
    assert {name: links for name, links in broken.items() if links} == {}


def test_every_path_and_module_named_in_a_readme_exists(
    repository: Path, tracked: set[str]
) -> None:
    texts = documents(repository, tracked)
    written = {name: text for name, text in texts.items() if not name.startswith("results/tables/")}
    for name, text in written.items():
        assert (name, missing_paths(name, text, tracked)) == (name, [])
        assert (name, missing_modules(repository, text)) == (name, [])


def test_the_readme_is_one_that_is_read(repository: Path) -> None:
    lines = (repository / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST_README
    typed = [line for line in lines if not line.startswith("|")]
    assert max(map(len, typed)) <= 140


def test_what_is_missing_is_found(repository: Path) -> None:
    """The checks above, on a document that is wrong in every way."""
    tracked = {".", "a.py", "doc", "doc/d/a.py", "doc/x.md", "doc/y.md", "zia_core", "results"}
    texts = {
        "doc/x.md": "[a](y.md#one-title) [c](gone.md) [d](y.md#two) ![e](../e.png) [f](#z)",
        "doc/y.md": "# One `title`!\n\n[up](..) [web](https://example.org/x)",
    }
    assert broken_links("doc/x.md", texts, tracked) == ["gone.md", "y.md#two", "../e.png", "#z"]
    assert broken_links("doc/y.md", texts, tracked) == []
    text = (
        "`a.py` `b.py` `doc/x.md` `doc/z.md` `results/runs/1/` `zia_core/no/` `other/x` [`c.py`](d)"
    )
    assert missing_paths("doc/x.md", text, tracked) == ["b.py", "doc/z.md", "zia_core/no"]
    text = "`zia_core.attach` `zia_core.no`\n\n```sh\npython -m experiments.cli\nzia_core.no.x\n```"
    text += "\n\n```python\nfrom zia_core import attach, detached\nfrom torch import no\n```"
    missing = ["zia_core.detached", "zia_core.no", "zia_core.no.x"]
    assert missing_modules(repository, text) == missing
