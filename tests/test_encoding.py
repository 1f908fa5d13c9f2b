"""Text is UTF-8 in every file and pipe, whatever the locale: no call leaves that to the system."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("zia_core", "experiments", "benchmarks")
METHODS = {"read_text", "write_text"}
ENCODINGS = {"utf-8", "ascii"}
# Functions of ours, and libraries' that open no text file.
OTHERS = {"Image.open", "os.open", "safe_open", "tarfile.open"}


def unencoded(source: str) -> Iterator[int]:
    """The lines of calls that read or write text in the encoding of the locale."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        literals = [a.value for a in call.args if isinstance(a, ast.Constant)]
        mode = keywords.get("mode")
        modes = [*literals, mode.value if isinstance(mode, ast.Constant) else ""]
        binary = any(isinstance(m, str) and "b" in m and len(m) <= 3 for m in modes)
        method = name.rpartition(".")[2]
        if method == "open" and name not in OTHERS:
            text = name not in ("gzip.open", "os.fdopen") or "rt" in modes
            unset = text and not binary
        elif method in ("NamedTemporaryFile", "TemporaryFile"):
            unset = any(isinstance(m, str) and m and "b" not in m for m in modes)
        elif name.startswith("subprocess."):
            unset = bool({"text", "universal_newlines"} & keywords.keys())
        else:
            # A function read_text is our own: it takes a path.
            unset = method in METHODS and name != method and not ENCODINGS & set(literals)
        if unset and "encoding" not in keywords:
            yield call.lineno


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "path.open('a')",
        "gzip.open(path, 'rt')",
        "subprocess.run(command, text=True)",
        "log.open(errors='replace')",
    ],
)
def test_what_leaves_it_to_the_locale_is_found(call: str) -> None:
    assert list(unencoded(call)) == [1]


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text(encoding='utf-8')",
        "open(path, 'rb')",
        "gzip.open(path)",
        "read_text(path)",
        "Image.open(path)",
        "subprocess.run(command, text=True, encoding='utf-8')",
    ],
)
def test_what_does_not_is_let_be(call: str) -> None:
    assert list(unencoded(call)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_depends_on_the_locale(repository: Path, package: str) -> None:
    found = [
        f"{path.relative_to(repository)}:{line}"
        for path in sorted((repository / package).rglob("*.py"))
        for line in unencoded(path.read_text(encoding="utf-8"))
    ]
    assert found == []
