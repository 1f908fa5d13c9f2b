"""What a release, a citation and continuous integration say is what the project says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    parsed = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    project: dict[str, Any] = parsed["project"]
    return project


def read_yaml(path: Path) -> dict[Any, Any]:
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return parsed


def test_one_version_and_one_licence(repository: Path, project: dict[str, Any]) -> None:
    citation = read_yaml(repository / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    headings = re.findall(r"^## (.*)$", (repository / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert project["version"] in headings[0]


def test_the_paper_is_cited_alike(repository: Path) -> None:
    paper = read_yaml(repository / "CITATION.cff")["preferred-citation"]
    bibtex = (repository / "README.md").read_text("utf-8").split("```bibtex\n")[1].split("```")[0]
    assert re.sub("[{}]", "", paper["title"]) in re.sub("[{}]", "", bibtex)
    authors = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert f"author    = {{{' and '.join(authors)}}}" in bibtex
    assert str(paper["year"]) in bibtex


def test_the_workflow_runs_ci_with_the_oldest_python(
    repository: Path, project: dict[str, Any]
) -> None:
    (job,) = read_yaml(repository / ".github/workflows/ci.yml")["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (repository / ".ci/run").stat().st_mode & 0o111
    versions = [step["with"]["python-version"] for step in job["steps"] if "python" in str(step)]
    assert versions == [project["requires-python"].removeprefix(">=")]


def test_pre_commit_runs_the_pinned_tools(repository: Path) -> None:
    """They are those of .venv, so no second version is written down anywhere."""
    repositories = read_yaml(repository / ".pre-commit-config.yaml")["repos"]
    assert [entry["repo"] for entry in repositories] == ["local"]
    programs = {hook["entry"].split()[0] for hook in repositories[0]["hooks"]}
    assert programs == {".venv/bin/ruff", ".venv/bin/mypy"}
    pinned = (repository / "requirements.lock").read_text("utf-8")
    assert {"ruff==", "mypy=="} <= set(re.findall(r"^(?:ruff|mypy)==", pinned, re.M))
