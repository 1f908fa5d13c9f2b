import gzip
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.cli import main
from experiments.dispatch.in_process import run_one
from experiments.harness import registry, seal, stored
from experiments.harness.publish import SHOWN, compare, publish
from experiments.harness.run_paths import every_run
from experiments.harness.seal import SEAL
from experiments.harness.verify import verify
from tests.harness import toy
from zia_core.adapters import packed
from zia_core.errors import ZiaError

HOST, OTHER_HOST = "gpu-node-17.cluster.example", "laptop"


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("ZIA_DATA", "/home/somebody/data")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run that names everything it must not, and one that is not finished."""
    runs = tmp_path / "runs"
    run_one(toy.spec(), runs)
    run_one(toy.spec(fail="error"), runs)
    path = folder(runs)
    environment = json.loads((path / stored.ENVIRONMENT).read_text())
    environment |= {
        "data": {"/home/somebody/data/alpaca/alpaca_data.json": "ab12"},
        "read_from": ["/home/somebody/models/w.gguf", "/scratch/somebody/w.safetensors"],
        "log": f"ssh {HOST}:/home/somebody, C:\\Users\\somebody, file:///home/somebody",
        "kept": "https://example.org/models/w at 12 tokens/s, see docs/../README.md",
    }
    (path / stored.ENVIRONMENT).write_text(json.dumps(environment))
    status = stored.read_status(path)
    status["attempts"].append(status["attempts"][0] | {"host": OTHER_HOST})
    (path / stored.STATUS).write_text(json.dumps(status))
    (path / stored.ADAPTER).write_bytes(packed({"x": torch.ones(2)}, {}))
    seal.write(path)
    return runs


def folder(root: Path) -> Path:
    return root / "toy" / toy.spec().folder_name


def test_no_host_home_or_absolute_path_survives(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    assert str(published) == f"{tmp_path}/published/toy-mini.zip/{toy.spec().folder_name}"
    texts = b"".join(published.contents().values()).decode()
    for secret in (HOST, OTHER_HOST, "somebody", "/scratch", "/home", "C:"):
        assert secret not in texts
    environment = json.loads((published / stored.ENVIRONMENT).read_bytes())
    assert environment["host"] == "host-1"
    assert list(environment["data"]) == ["$ZIA_DATA/alpaca/alpaca_data.json"]
    assert environment["read_from"] == ["~/models/w.gguf", "w.safetensors"]
    assert environment["log"] == "ssh host-1:~, <path>, file://~"
    assert (
        environment["kept"] == "https://example.org/models/w at 12 tokens/s, see docs/../README.md"
    )
    attempts = stored.read_status(published)["attempts"]
    assert [attempt["host"] for attempt in attempts] == ["host-1", "host-2"]


def test_weights_and_owners_stay_and_the_numbers_come_along(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    names = (stored.CONFIG, stored.METRICS, stored.RESULT)
    for name in names:
        assert (published / name).read_bytes() == (folder(runs) / name).read_bytes()
    assert stored.load(published).predictions() == stored.load(folder(runs)).predictions()
    others = {stored.ENVIRONMENT, stored.STATUS, stored.ARCHIVED_PREDICTIONS, SEAL}
    assert set(published.files) == {*names, *others}
    assert {finding.outcome for finding in verify(published)} == {"ok", "needs data"}


def test_runs_that_shared_their_cores_are_marked(runs: Path, tmp_path: Path) -> None:
    publish(runs, tmp_path / "alone")
    publish(runs, tmp_path / "shared", timed=False)
    alone, shared = (
        stored.load_sealed(run)
        for name in ("alone", "shared")
        for run in every_run(tmp_path / name).values()
    )
    assert shared.environment == alone.environment | {"timed": False}
    assert "timed" not in alone.environment


def test_a_run_without_its_environment_is_marked_too(runs: Path, tmp_path: Path) -> None:
    (folder(runs) / stored.ENVIRONMENT).unlink()
    seal.write(folder(runs))
    publish(runs, tmp_path / "shared", timed=False)
    (shared,) = every_run(tmp_path / "shared").values()
    assert stored.load_sealed(shared).environment == {"timed": False}


def test_evidence_is_not_rewritten(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    before = published.archive.path.stat(), published.archive.path.read_bytes()
    (folder(runs) / stored.RESULT).write_text("{}")
    assert publish(runs, tmp_path / "published") == []
    after = published.archive.path.stat(), published.archive.path.read_bytes()
    assert (after[0].st_ino, after[0].st_mtime_ns, after[1]) == (
        before[0].st_ino,
        before[0].st_mtime_ns,
        before[1],
    )


def test_reference_texts_are_not_published(runs: Path, tmp_path: Path) -> None:
    data = json.dumps({"id": 1, "reference": "theirs"}).encode()
    (folder(runs) / stored.PREDICTIONS).write_bytes(gzip.compress(data))
    seal.write(folder(runs))
    with pytest.raises(ZiaError, match=r"reference texts .key 'reference'"):
        publish(runs, tmp_path / "published")
    assert not list(tmp_path.glob("published/*.zip"))


def test_a_path_in_the_identity_is_not_published(tmp_path: Path) -> None:
    run_one(replace(toy.spec(), data="/home/somebody/x"), tmp_path / "runs")
    with pytest.raises(ZiaError, match="an absolute path"):
        publish(tmp_path / "runs", tmp_path / "published")


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = (path / name).read_text()
        assert old in content
        (path / name).write_text(content.replace(old, new))

    return change


def link(path: Path) -> None:
    (path / stored.TIMING).rename(path.parent / "elsewhere")
    (path / stored.TIMING).symlink_to("../elsewhere")


BROKEN = [
    (edit(stored.CONFIG, '"seed": 0', '"seed": 7'), "identity"),
    (edit(stored.CONFIG, "\n", " \n"), "seal"),
    (edit(stored.METRICS, '"step":6', '"step":7'), "log"),
    (lambda path: (path / stored.METRICS).write_text(""), "log"),
    (edit(stored.ENVIRONMENT, "python", "Python"), "seal"),
    (edit(stored.RESULT, "0.75", "0.76"), "seal"),
    (lambda path: (path / stored.PREDICTIONS).unlink(), "seal"),
    (lambda path: (path / stored.RESULT).unlink(), "status"),
    (lambda path: (path / stored.ADAPTER).unlink(), "seal"),
    (lambda path: (path / SEAL).unlink(), "seal"),
    (link, "seal"),
    (lambda path: (path / stored.ANSWERS).symlink_to("/etc/hostname"), "seal"),
    (lambda path: (path / stored.PROMPT_SHARE).write_text("{}"), "seal"),
]


@pytest.mark.parametrize(("damage", "check"), BROKEN)
@pytest.mark.parametrize("sealed", [True, False])
def test_what_verify_would_fail_is_not_published(
    runs: Path, tmp_path: Path, damage: Callable[[Path], object], check: str, sealed: bool
) -> None:
    """Nor is any other run of these; of runs without a seal, none at all."""
    run_one(toy.spec(seed=5), runs)
    damage(folder(runs))
    if not sealed:
        (folder(runs) / SEAL).unlink(missing_ok=True)
        status = json.loads((folder(runs) / stored.STATUS).read_text())
        del status["sealed"]
        (folder(runs) / stored.STATUS).write_text(json.dumps(status))
        check = r"\w+"
    with pytest.raises(ZiaError, match=rf"{folder(runs).name} is not published \({check}\): "):
        publish(runs, tmp_path / "published")
    assert not list(tmp_path.glob("published/*.zip"))


def test_nothing_is_published_but_what_is_of_the_run(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"password": "hunter2"}')
    foreign = folder(runs) / "notes.json", folder(runs) / "more.jsonl"
    for path in foreign:
        path.write_text("{}\n")
    (folder(runs) / "linked.json").symlink_to(tmp_path / "secret.json")
    (published,) = publish(runs, tmp_path / "published")
    assert set(published.files) == {
        stored.CONFIG, stored.ENVIRONMENT, stored.STATUS, stored.RESULT, stored.METRICS,
        stored.ARCHIVED_PREDICTIONS, SEAL,
    }  # fmt: skip


def test_a_run_that_is_a_link_is_not_published(runs: Path, tmp_path: Path) -> None:
    elsewhere = folder(runs).rename(tmp_path / folder(runs).name)
    folder(runs).symlink_to(elsewhere)
    with pytest.raises(ZiaError, match=r"is a link: put the file itself there"):
        publish(runs, tmp_path / "published")
    assert not list(tmp_path.glob("published/*.zip"))


def test_compare_finds_the_first_step_that_differs(runs: Path, tmp_path: Path) -> None:
    specs: Sequence = [toy.spec(), toy.spec(fail="error"), toy.spec(seed=3)]
    assert list(compare(specs, runs, tmp_path / "published")) == []
    publish(runs, tmp_path / "published")
    (same,) = compare(specs, runs, tmp_path / "published")
    assert same == "1 of 1 runs are as published, to the last digit"
    metrics = folder(runs) / stored.METRICS
    lines = metrics.read_text().splitlines(keepends=True)
    more = lines[3].replace("{", '{"gates":{"0":[0.5]},', 1)  # by one of the codes only
    metrics.write_text("".join([*lines[:3], more, *lines[4:]]))
    (changed,) = list(compare(specs, runs, tmp_path / "published"))[1:]
    assert f"{stored.METRICS} was changed since the run was done" in changed
    seal.write(folder(runs))
    (same,) = compare(specs, runs, tmp_path / "published")
    assert same == "1 of 1 runs are as published, to the last digit"
    metrics.write_text("".join(lines[:-1]))
    seal.write(folder(runs))
    none, shorter = compare(specs, runs, tmp_path / "published")
    assert none == "0 of 1 runs are as published, to the last digit"
    assert "differs from the published run at step" in shorter
    metrics.write_text("".join([*lines[:3], '{"loss":7.5,"step":3}\n', *lines[4:]]))
    seal.write(folder(runs))
    _, different = compare(specs, runs, tmp_path / "published")
    assert "differs from the published run at step 3: loss 7.5 (published 1.12" in different


def test_compare_reads_predictions_and_results_as_well(runs: Path, tmp_path: Path) -> None:
    result, predictions = folder(runs) / stored.RESULT, folder(runs) / stored.PREDICTIONS
    kept = json.loads(result.read_text()) | {"train_seconds": 2.0, "peak_memory_bytes": 5}
    result.write_text(json.dumps(kept))
    seal.write(folder(runs))
    publish(runs, tmp_path / "published")

    def told() -> list[str]:
        seal.write(folder(runs))
        return list(compare([toy.spec()], runs, tmp_path / "published"))[1:]

    result.write_text(json.dumps(kept | {"train_seconds": 1e6, "peak_memory_bytes": 1}))
    assert told() == []  # of the machine
    result.write_text(json.dumps(kept | {"score": 0.125}))
    assert "differs from the published run in result.json: score 0.125 (published 0." in told()[0]
    result.write_text(json.dumps(kept))
    first, *others = gzip.decompress(predictions.read_bytes()).splitlines(keepends=True)
    other = json.dumps(json.loads(first) | {"output": "no"}).encode() + b"\n"
    predictions.write_bytes(gzip.compress(b"".join([other, *others])))
    assert "differs from the published run in the prediction 0: output no (published " in told()[0]
    predictions.write_bytes(gzip.compress(first))
    assert "differs from the published run in the prediction" in told()[0]


def test_of_many_differences_a_few_are_listed(tmp_path: Path) -> None:
    specs = [toy.spec(seed=seed) for seed in range(SHOWN + 3)]
    for spec in specs:
        run_one(spec, tmp_path / "runs")
    publish(tmp_path / "runs", tmp_path / "published")
    for metrics in (tmp_path / "runs").glob(f"*/*/{stored.METRICS}"):
        metrics.write_text('{"eval":{"score":7.5},"step":0}\n')
        seal.write(metrics.parent)
    count, *told, rest = compare(specs, tmp_path / "runs", tmp_path / "published")
    assert count == f"0 of {len(specs)} runs are as published, to the last digit"
    assert len(told) == SHOWN
    assert rest == "and so on: 3 more differ"


def test_it_is_a_command(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["zia", "publish", str(runs), str(tmp_path / "published")])
    with pytest.raises(SystemExit, match="0"):
        main.main()
    published = f"{tmp_path}/published/toy-mini.zip/{toy.spec().folder_name}"
    assert capsys.readouterr().out.strip() == published
    monkeypatch.setattr("sys.argv", ["zia", "publish", str(runs)])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert "Missing argument 'DEST'" in capsys.readouterr().err
