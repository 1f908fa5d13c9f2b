"""A finished run is sealed, and whoever reads it notices what is not as it was."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.dispatch.in_process import run_one
from experiments.harness import registry, seal, stored, unpacking
from experiments.harness.archive import RunPath
from experiments.harness.folder import RunFolder
from experiments.harness.publish import publish
from experiments.harness.spec import RunSpec
from experiments.harness.verify import verify
from experiments.io.files import canonical_json, sha256_file, write_json_atomic
from tests.harness import toy
from zia_core.adapters import packed
from zia_core.errors import ZiaError


def run_with_adapter(spec: RunSpec, folder: RunFolder) -> None:
    """The toy, which leaves an adapter and something in a folder."""
    toy.run(spec, folder)
    adapter = packed({"x": torch.arange(3.0)}, {"method": "add"})
    with folder.writing(stored.ADAPTER) as path:
        path.write_bytes(adapter)
    (folder.path / "backbone").mkdir(exist_ok=True)
    (folder.path / "backbone" / "card.json").write_text("{}")
    digest = hashlib.sha256(adapter).hexdigest()
    folder.write_result({"score": 0.75, "steps": spec.settings.steps, "adapter_sha256": digest})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run with an adapter."""
    known = {"toy": replace(toy.EXPERIMENT, run=run_with_adapter)}
    monkeypatch.setattr(registry, "experiments", lambda: known)
    monkeypatch.setenv(toy.REFERENCES, "there")
    assert run_one(toy.spec(), tmp_path / "runs").state == "done"
    return tmp_path / "runs" / "toy" / toy.spec().folder_name


def outcomes(path: RunPath) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in verify(path)}


def details(path: RunPath) -> str:
    return "\n".join(finding.detail for finding in verify(path) if finding.outcome == "failed")


FILES = (
    stored.CONFIG, stored.ENVIRONMENT, stored.STATUS, stored.RESULT, stored.METRICS, stored.TIMING,
    stored.PREDICTIONS, stored.ADAPTER, "backbone/card.json",
)  # fmt: skip


def test_every_file_is_sealed(run: Path) -> None:
    assert seal.read(run) == {name: sha256_file(run / name) for name in FILES}
    assert set(outcomes(run).values()) == {"ok"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [flip, lambda path: path.write_bytes(b""), lambda path: path.unlink(), link]
)
def test_a_file_that_is_not_as_it_was_is_named(
    run: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(run / name)
    assert str(run / name) in details(run)
    if name not in (stored.CONFIG, stored.STATUS):  # which may not even be read
        assert outcomes(run)["seal"] == "failed"
    if name != stored.STATUS:
        with pytest.raises(ZiaError, match=name):
            stored.load_sealed(run, tensors=True)
    if name != stored.ADAPTER:
        assert run.name in details(run)
    else:  # tables do not read it
        assert stored.load_sealed(run).state == "done"


def test_numbers_written_differently_are_other_numbers(run: Path) -> None:
    for name in (stored.CONFIG, stored.ENVIRONMENT, stored.RESULT):
        before = (run / name).read_bytes()
        (run / name).write_text(canonical_json(json.loads(before)))
        with pytest.raises(ZiaError, match=rf"{name} was changed since the run was done"):
            stored.load_sealed(run)
        (run / name).write_bytes(before)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"config.json":1}'])
def test_without_its_seal_a_sealed_run_is_refused(run: Path, content: str | None) -> None:
    if content is None:
        (run / seal.SEAL).unlink()
    else:
        (run / seal.SEAL).write_text(content)
    assert seal.SEAL in details(run)
    with pytest.raises(ZiaError, match=seal.SEAL):
        stored.load_sealed(run)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "C:/x", "a\\b", ""])
def test_a_seal_names_nothing_outside(run: Path, name: str) -> None:
    write_json_atomic(run / seal.SEAL, {**(seal.read(run) or {}), name: "0"})
    with pytest.raises(ZiaError, match=r"names .* which is not a file inside"):
        stored.load_sealed(run)


def test_what_is_not_sealed_is_not_of_the_run(run: Path, tmp_path: Path) -> None:
    (published,) = publish(tmp_path / "runs", tmp_path / "published")
    (run / "backbone" / "more.json").write_text("{}")
    (run / "linked").symlink_to("/etc")
    found = {finding.check: finding for finding in verify(run)}["seal"]
    assert found.outcome == "ok"
    assert found.detail == "9 files; not of the run: backbone/more.json, linked"
    copy = unpacking.unpack(published, tmp_path)
    (copy / "linked").symlink_to("/etc")
    assert "linked is not listed in files.json: take it away" in details(copy)


@pytest.mark.parametrize("name", [".nfs0001", "backbone/.DS_Store", "Icon\r", "a\\b", "a\u3000b"])
def test_what_others_leave_in_a_folder_is_not_sealed(run: Path, name: str) -> None:
    """It goes again, or has a name that no seal may have: then the run would be refused for it."""
    unseal(run)
    (run / name).touch()
    assert [f.outcome for f in verify(run, sealing=True) if f.check == "seal"] == ["ok"]
    (run / name).unlink()
    assert stored.load_sealed(run).is_sealed


@pytest.mark.parametrize("name", [stored.PROMPT_SHARE, stored.ANSWERS, stored.CARD])
def test_nothing_stands_in_for_what_a_run_does_not_have(run: Path, name: str) -> None:
    (run / name).write_text("{}")
    with pytest.raises(ZiaError, match=rf"{name} is not listed in files\.json: take it away"):
        stored.load_sealed(run)
    assert outcomes(run)["seal"] == "failed"


def test_a_published_run_takes_its_own_adapter_back_and_no_other(run: Path, tmp_path: Path) -> None:
    (published,) = publish(tmp_path / "runs", tmp_path / "published")
    copy = unpacking.unpack(published, tmp_path)
    shutil.copy(run / stored.ADAPTER, copy)
    assert stored.with_adapter(copy).state == "done"
    flip(copy / stored.ADAPTER)
    with pytest.raises(ZiaError, match=r"is not the adapter that result\.json describes"):
        stored.with_adapter(copy)


def test_a_run_without_an_adapter_takes_none(tmp_path: Path, run: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    result = json.loads((tmp_path / "copy" / stored.RESULT).read_text())
    write_json_atomic(tmp_path / "copy" / stored.RESULT, result | {"adapter_sha256": None})
    (tmp_path / "copy" / stored.ADAPTER).unlink()
    seal.write(tmp_path / "copy")
    shutil.copy(run / stored.ADAPTER, tmp_path / "copy")
    with pytest.raises(ZiaError, match=r"is not the adapter that result\.json describes"):
        stored.with_adapter(tmp_path / "copy")


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(nans(path))])
@pytest.mark.parametrize("sealed", [True, False])
def test_an_adapter_is_tried_out_only_as_it_was_trained(
    run: Path, damage: Callable[[Path], object], sealed: bool
) -> None:
    assert stored.with_adapter(run).state == "done"
    if not sealed:
        unseal(run)
    damage(run / stored.ADAPTER)
    with pytest.raises(ZiaError, match=r"adapter\.safetensors (was changed|is not the adapter)"):
        stored.with_adapter(run)


def nans(path: Path) -> bytes:
    return packed({"x": torch.full((3,), torch.nan)}, {"method": "add"})


def test_an_adapter_that_never_was_finite_is_noticed(run: Path) -> None:
    (run / stored.ADAPTER).write_bytes(nans(run))
    result = json.loads((run / stored.RESULT).read_text())
    write_json_atomic(
        run / stored.RESULT, result | {"adapter_sha256": sha256_file(run / stored.ADAPTER)}
    )
    seal.write(run)
    assert outcomes(run)["adapter"] == "failed"
    assert "x is not finite" in details(run)


def unseal(run: Path) -> None:
    """Make it a run of before there were seals."""
    (run / seal.SEAL).unlink()
    status = json.loads((run / stored.STATUS).read_text())
    del status["sealed"]
    write_json_atomic(run / stored.STATUS, status)


def test_a_run_that_is_older_than_seals_is_read_and_can_be_sealed(run: Path) -> None:
    unseal(run)
    assert not stored.load_sealed(run).is_sealed
    assert outcomes(run)["seal"] == "not sealed"
    assert "failed" not in outcomes(run).values()
    (run / stored.TIMING).rename(run / "kept")
    assert "timing.jsonl is missing" in "\n".join(f.detail for f in verify(run, sealing=True))
    assert not (run / seal.SEAL).exists()
    (run / "kept").rename(run / stored.TIMING)
    (run / stored.ADAPTER).rename(run / "kept")
    assert "adapter.safetensors is missing" in details(run)
    (run / "kept").rename(run / stored.ADAPTER)
    assert {finding.outcome for finding in verify(run, sealing=True)} == {"ok"}
    assert seal.read(run) == {name: sha256_file(run / name) for name in FILES}


def test_a_published_run_says_that_its_adapter_is_not_there(run: Path, tmp_path: Path) -> None:
    (published,) = publish(tmp_path / "runs", tmp_path / "published")
    adapter = next(finding for finding in verify(published) if finding.check == "adapter")
    digest = sha256_file(run / stored.ADAPTER)
    assert adapter.outcome == "absent"
    assert adapter.detail == f"published without adapter.safetensors, whose SHA-256 was {digest}"
    with pytest.raises(ZiaError, match=r"no adapter\.safetensors, which published runs come"):
        stored.with_adapter(unpacking.unpack(published, tmp_path))


@pytest.mark.parametrize("lost", [seal.SEAL, stored.STATUS])
def test_a_run_is_done_with_its_seal_or_not_at_all(
    run: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The disk is full at the seal, or between the seal and the status."""
    spec = toy.spec(seed=5)
    path = run.parent / spec.folder_name
    whole = RunFolder._finish

    def finish(folder: RunFolder) -> None:
        with monkeypatch.context() as full:
            replace_file = Path.replace

            def refuse(source: Path, target: Path) -> Path:
                if Path(target).name == lost:
                    raise OSError(28, "No space left on device")
                return replace_file(source, target)

            full.setattr(Path, "replace", refuse)
            whole(folder)

    with monkeypatch.context() as full:
        full.setattr(RunFolder, "_finish", finish)
        assert run_one(spec, run.parent.parent).state == "failed"
    assert stored.read_status(path)["state"] == "failed"
    assert (path / seal.SEAL).exists() == (lost == stored.STATUS)
    assert run_one(spec, run.parent.parent).state == "done"
    assert set(outcomes(path).values()) == {"ok"}


def test_the_result_of_a_required_run_is_that_of_the_day(run: Path) -> None:
    result = json.loads((run / stored.RESULT).read_text())
    write_json_atomic(run / stored.RESULT, result | {"score": 0.5})
    other = RunFolder.claim(run.parent.parent, toy.spec(seed=9), {})
    assert other is not None
    with other, pytest.raises(ZiaError, match=r"result\.json was changed since the run was done"):
        other.result_of(toy.spec(), toy.EXPERIMENT.result_fields)
