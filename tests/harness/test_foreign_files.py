"""Files that synchronisation, editors and network file systems leave beside ours are no files of
ours: a number is read from names of our own form alone.
"""

from pathlib import Path

from experiments.dispatch import bad_nodes
from experiments.harness import stored
from experiments.harness.ownership import OWNER, Ownership
from tests.cli.test_main import RUNS, Zia, run_folder, zia
from tests.dispatch.test_active_jobs import local_submission

__all__ = ["zia"]  # a fixture

FOREIGN = (
    "000001 (conflicted copy).json",
    "000009.json~",
    ".000009.json.swp",
    "000001.sync-conflict-20260101-abc.json",
    "٠٠٠٠٠٩.json",  # digits, for Python
    "9.json",
    ".DS_Store",
    ".nfs000000000a1b2c3d00000001",
    "Thumbs.db",
    "step-5.safetensors.bak",
    "step-00000009 (1).safetensors",
    "step-00000009.safetensors~",
    "step-.safetensors",
    "step-٠٠٠٠٠٠٠٩.safetensors",
)


def test_every_command_passes_them_over(zia: Zia) -> None:
    assert zia("run toy --set stop_at=3").code == 130
    run = run_folder(stop_at=3)
    for folder in (run, run / OWNER, run / stored.CHECKPOINT, RUNS, RUNS / "toy"):
        for name in FOREIGN:
            (folder / name).write_bytes(b"\x00not ours")
    assert stored.checkpoint_step(run) == 3
    for command in ("status", "plan toy"):
        code, _, err = zia(command)
        assert (code, err) == (0, "")
    code, out, _ = zia("run toy --set stop_at=3")
    assert (code, "done: score 0.75" in out) == (0, True)
    assert (run / OWNER / "000002.json").exists()
    assert zia("status").code == 0


def test_a_conflicted_copy_is_neither_owner_nor_checkpoint(tmp_path: Path) -> None:
    owner = Ownership.claim(tmp_path)
    assert owner is not None
    for name in FOREIGN:
        (tmp_path / OWNER / name).write_text("{}")
    owner.check()  # still its own
    owner.release()
    following = Ownership.claim(tmp_path)
    assert following is not None
    assert following.number == 2
    following.release()


def test_a_hidden_folder_is_not_a_run(zia: Zia) -> None:
    zia("run toy")
    trash = RUNS / ".Trash-0" / "toy" / stored.CONFIG
    trash.parent.mkdir(parents=True)
    trash.write_text("{}")
    assert zia("status").code == 0


def test_a_file_of_the_file_system_is_not_a_node(tmp_path: Path) -> None:
    submitted = local_submission(tmp_path)
    bad_nodes.prepare(submitted)
    for name in ("n1", ".nfs0001", ".DS_Store"):
        (submitted.folder / bad_nodes.BAD_NODES / name).touch()
    assert bad_nodes.avoided(submitted) == ["n1"]
