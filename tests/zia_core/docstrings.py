"""Google-style docstrings as Markdown."""

import re
from collections.abc import Callable
from textwrap import dedent

SECTION = re.compile(r"(Args|Returns|Yields|Raises|Attributes|Parameters)(.*):")
FENCE = re.compile(r"(```.*?```)", re.S)
CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.S)


def sections(docstring: str) -> dict[str, str]:
    """The text of each section, by its heading; that above all of them is ""."""
    found: dict[str, list[str]] = {"": []}
    heading, fenced = "", False
    for line in docstring.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and (match := SECTION.fullmatch(line)):
            heading = match[1]
        elif not fenced and heading and line and not line.startswith(" "):
            heading = ""
        found.setdefault(heading, []).append(line)
    return {
        name: dedent("\n".join(lines[1:] if name else lines)).strip()
        for name, lines in found.items()
    }


def items(section: str) -> list[tuple[str, str]]:
    """The entries of a section such as Args: name and text."""
    entries = re.split(r"\n(?! )", section)
    parted = [re.fullmatch(r"([\w, ]+): (.*)", entry, re.S) for entry in entries]
    return [(m[1], " ".join(m[2].split())) for m in parted if m]


def markdown(docstring: str | None, link: Callable[[str], str]) -> str:
    """A docstring as Markdown; `link` gets each code span and returns what to write for it."""
    parts = []
    for heading, body in sections(docstring or "").items():
        if heading in ("Returns", "Yields"):
            parts.append(f"**{heading}**\n\n{prose(body, link)}\n")
        elif heading:
            listed = [f"- {code_names(name)}: {prose(text, link)}" for name, text in items(body)]
            assert listed, f"{heading} has no entries: {docstring}"
            parts.append("\n".join([f"**{heading}**\n", *listed, ""]))
        elif body:
            parts.append(prose(body, link) + "\n")
    return "\n".join(parts)


def code_names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def prose(text: str, link: Callable[[str], str] = lambda code: f"`{code}`") -> str:
    """Text as it reads, where Markdown would see a sign; fenced code is left alone."""
    return "".join(
        part if number % 2 else _escaped(part, link)
        for number, part in enumerate(FENCE.split(text))
    )


def _escaped(text: str, link: Callable[[str], str]) -> str:
    found, end = [], 0
    for code in CODE.finditer(text):
        found += [_plain(text[end : code.start()]), link(" ".join((code[1] or code[2]).split()))]
        end = code.end()
    return "".join([*found, _plain(text[end:])])


def _plain(text: str) -> str:
    return re.sub(r"([*<|])", r"\\\1", text)
