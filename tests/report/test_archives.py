"""Everything made from archives is what is made from the run folders that were archived."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.alpaca_llama.instructions import own_instructions
from experiments.harness import archive, run_paths, seal, stored
from experiments.harness.archive import Archive
from experiments.report.claims.write import write_claims
from experiments.report.figures.write import write_figures
from experiments.report.html.report import write_report
from experiments.report.runs import read_runs
from experiments.report.tables.write import explain, write_tables
from tests.report.published_page import missing
from tests.report.run_folders import write_predictions, write_run, write_squad
from zia_core.errors import ZiaError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "folders"
    for seed in range(3):
        write_squad(root, "lora", "squad-v1.1", seed, 50 + seed, losses=(3.0, 2.0, 1.0))
        write_squad(root, "zero-init", "squad-v1.1", seed, 55 + seed, losses=(3.0, 2.5, 0.5))
        run = write_run(root, "zero-init", seed, losses=(2.0, 1.0), task="instruct")
        own = {
            "id": own_instructions("small")[0].id,
            "set": "nine",
            "decoding": "greedy",
            "output": f"answer {seed}",
        }
        write_predictions(run, [own])
        (run / stored.PROMPT_SHARE).write_text(json.dumps({"share": {"0": [0.5, 0.25]}}))
    for run in run_paths.folders(root):
        seal.write(run)
    return root


def archived(folders: Path, root: Path) -> Path:
    """The run folders as archives in `root`."""
    contents: dict[str, dict[str, dict[str, bytes]]] = {}
    for run in run_paths.folders(folders):
        files = {name: (run / name).read_bytes() for name in seal.digests(run)}
        if stored.PREDICTIONS in files:
            packed = files.pop(stored.PREDICTIONS)
            files[stored.ARCHIVED_PREDICTIONS] = gzip.decompress(packed)
        sealed = json.dumps(seal.of_contents(files)).encode()
        contents.setdefault(run.parent.name, {})[run.name] = files | {seal.SEAL: sealed}
    root.mkdir()
    for experiment, runs in contents.items():
        archive.write(root / archive.file_name(experiment, "small"), experiment, "small", runs)
    return root


def made(runs: Path, out: Path) -> dict[str, bytes]:
    write_tables([runs], out)
    write_claims([runs], out)
    write_figures([runs], out)
    write_report([runs], out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_tables_claims_figures_and_report_are_the_same(folders: Path, tmp_path: Path) -> None:
    archives = archived(folders, tmp_path / "archives")
    from_folders = made(folders, tmp_path / "a")
    assert {name for name in from_folders if name.startswith(("losses", "prompt"))}
    assert b"answer 0" in from_folders["report.html"]
    assert made(archives, tmp_path / "b") == from_folders
    page = from_folders["report.html"].decode()
    assert missing(page, archives) == []
    one = next(iter(run_paths.every_run(archives)))
    assert missing(page.replace(one, "another"), archives) == [one]
    assert len(missing(page.removesuffix("</html>\n").strip()[:-9], archives)) == 9
    told = [list(explain([runs], "squad", "lora", "1.1 EM")) for runs in (folders, archives)]
    assert told[0] == told[1] != []


def test_folders_and_archives_may_be_mixed(folders: Path, tmp_path: Path) -> None:
    archives = archived(folders, tmp_path / "archives")
    whole = read_runs([archives]).found.keys()
    assert len(whole) == 9
    one = archives / "squad_roberta-small.zip"
    assert {name.split("/")[0] for name in read_runs([one]).found} == {"squad_roberta"}
    moved = archives / "squad_roberta"
    (folders / "squad_roberta").rename(moved)
    assert read_runs([archives]).found.keys() == whole  # each of those is there twice
    one.unlink()
    assert read_runs([archives]).found.keys() == whole


def test_a_damaged_archive_is_named_or_left_out(folders: Path, tmp_path: Path) -> None:
    archives = archived(folders, tmp_path / "archives")
    path = archives / "squad_roberta-small.zip"
    whole = path.read_bytes()
    others = {name for name in read_runs([archives]).found if name.startswith("alpaca")}
    assert Archive(path).member("metrics.jsonl")
    place = whole.index(b"metrics.jsonl.bz2") + len("metrics.jsonl.bz2") + 20
    for damaged, said in (
        (
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
            "the member metrics.jsonl",
        ),
        (whole[:-30], "the member index.json"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ZiaError, match=rf"^{path}: {said} cannot be read"):
            write_tables([archives], tmp_path / "out")
        assert not (tmp_path / "out").exists()
        runs = read_runs([archives], keep_going=True)
        assert runs.found.keys() == others
        assert all(f"{path.name}: {said}" in one for one in runs.damaged_of("squad_roberta"))
        assert runs.damaged_of("squad_roberta")


def test_the_examples_of_the_readme_read_one_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    text = Path("results/README.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for code in re.findall("```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    metrics = [json.loads(line) for line in names["metrics"].splitlines()]
    assert metrics == list(names["run"].metrics())
    assert len(metrics) > 1
