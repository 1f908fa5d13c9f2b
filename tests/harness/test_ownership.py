import errno
import json
import os
import signal
import threading
import time
from dataclasses import asdict, replace

import pytest

from experiments.harness.ownership import (
    LostOwnershipError,
    Ownership,
    Watch,
    is_held,
    may_be_claimed,
)
from experiments.harness.process_identity import Process
from zia_core.errors import ZiaError

# Beats every 50 ms, and is stale after 0.3 s without one.
STALE_AFTER_S = 0.3

OWN = """
import os, signal, sys
from pathlib import Path
from experiments.io.files import replacing
from experiments.harness.ownership import LostOwnershipError, Ownership
folder = Path(sys.argv[1])
owner = Ownership.claim(folder, stale_after_s=0.3)
print(owner.number)
"""


def test_one_owner_at_a_time(tmp_path):
    first = Ownership.claim(tmp_path)
    assert first.number == 1
    assert is_held(tmp_path)
    assert Ownership.claim(tmp_path) is None
    first.check()
    first.release()
    assert not is_held(tmp_path)
    second = Ownership.claim(tmp_path)
    assert second.number == 2
    second.release()


def test_a_killed_owner_makes_way_at_once(tmp_path, start_child):
    child = start_child(OWN + "sys.stdin.readline()", tmp_path)
    assert child.stdout.readline() == "1\n"
    assert Ownership.claim(tmp_path) is None
    child.kill()
    # Dead but not collected by its parent (a zombie), which os.kill still finds.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_held(tmp_path)
    owner = Ownership.claim(tmp_path)
    assert owner.number == 2
    owner.release()


def test_a_living_owner_is_never_overtaken(tmp_path, start_child):
    child = start_child(OWN + "sys.stdin.readline(); owner.check(); print('mine')", tmp_path)
    child.stdout.readline()
    assert Ownership.claim(tmp_path, stale_after_s=60, wait=True) is None, "it saw it move"
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "mine\n"


def test_a_suspended_owner_is_overtaken_and_notices(tmp_path, start_child):
    program = """
sys.stdin.readline()
try:
    owner.check()
except LostOwnershipError as error:
    print(error)
owner.release()
"""
    child = start_child(OWN + program, tmp_path)
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    assert Ownership.claim(tmp_path) is None, "a stopped process still exists"
    owner = Ownership.claim(tmp_path, stale_after_s=STALE_AFTER_S, wait=True)
    assert owner.number == 2
    child.stdin.write("\n")
    child.stdin.flush()
    child.send_signal(signal.SIGCONT)
    assert "owner number 2 has taken over" in child.stdout.readline()
    child.wait()
    # The loser's release gives away nothing that is not its own.
    owner.check()
    assert is_held(tmp_path)
    owner.release()


def test_a_write_begun_before_the_takeover_cannot_end_after_it(tmp_path, start_child):
    program = """
try:
    with owner.guarding():
        with replacing(folder / "result.json", staging=owner.staging) as temporary:
            temporary.write_text("of the first owner")
            print("written")
            os.kill(os.getpid(), signal.SIGSTOP)  # checked and written, not yet renamed
    print("renamed")
except LostOwnershipError:
    print("lost")
"""
    child = start_child(OWN + program, tmp_path)
    child.stdout.readline()
    assert child.stdout.readline() == "written\n"
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    owner = Ownership.claim(tmp_path, stale_after_s=STALE_AFTER_S, wait=True)
    owner.write_json("result.json", {"by": owner.number})
    child.send_signal(signal.SIGCONT)
    assert child.stdout.readline() == "lost\n"
    child.wait()
    assert json.loads((tmp_path / "result.json").read_text()) == {"by": 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["owner", "result.json"]
    owner.release()


RACE = """
import os, sys
from pathlib import Path
from experiments.harness.ownership import Ownership
root, me, racers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for folder in sorted(root.iterdir()):
    (folder / f"ready-{me}").touch()
    while len(list(folder.glob("ready-*"))) < racers:
        pass
    print(0 if Ownership.claim(folder) is None else os.getpid())
"""


@pytest.mark.parametrize("predecessor", ["none", "released"])
def test_two_processes_race_and_one_wins(tmp_path, start_child, predecessor):
    for i in range(60):
        folder = tmp_path / f"{i:03d}"
        folder.mkdir()
        if predecessor == "released":
            Ownership.claim(folder).release()
    children = [start_child(RACE, tmp_path, me, 2) for me in range(2)]
    claims = zip(*([int(line) for line in child.stdout] for child in children), strict=True)
    for folder, (one, other) in zip(sorted(tmp_path.iterdir()), claims, strict=True):
        assert min(one, other) == 0 < max(one, other)
        written = max((folder / "owner").glob("*.json")).read_text()
        assert json.loads(written)["pid"] == max(one, other), "the loser wrote its name"


def write_owner(folder, process, beat="1"):
    owners = folder / "owner"
    owners.mkdir()
    (owners / "000001.json").write_text(json.dumps({**asdict(process), "beat_s": 0.01}))
    (owners / "000001.beat").write_text(beat)


def test_a_process_with_a_reused_number_is_another_process(tmp_path):
    here = Process.current()
    write_owner(tmp_path, replace(here, start_time=here.start_time - 1))
    assert not is_held(tmp_path)


@pytest.mark.parametrize(
    "elsewhere", [{"boot_id": "another machine"}, {"pid_namespace": 1}, {"start_time": None}]
)
def test_of_a_process_elsewhere_only_its_counter_tells(tmp_path, elsewhere):
    missing_pid = 2**22 + 1  # beyond the largest process number that Linux gives
    write_owner(tmp_path, replace(Process.current(), pid=missing_pid, **elsewhere))
    assert is_held(tmp_path)
    assert Ownership.claim(tmp_path) is None
    owner = Ownership.claim(tmp_path, stale_after_s=STALE_AFTER_S, wait=True)
    assert owner.number == 2
    owner.release()


def test_a_counter_that_beats_slowly_is_watched_for_longer(tmp_path):
    """An owner that beats every 0.5 s is alive, though the observer would wait only 0.1 s."""
    owner = Ownership.claim(tmp_path, stale_after_s=3)
    assert Ownership.claim(tmp_path, stale_after_s=0.1, wait=True) is None
    owner.release()


def test_an_owner_that_releases_while_it_is_watched_makes_way(tmp_path):
    first = Ownership.claim(tmp_path, stale_after_s=60)
    threading.Timer(0.2, first.release).start()
    second = Ownership.claim(tmp_path, stale_after_s=60, wait=True)
    assert second.number == 2
    second.release()


def test_an_owner_killed_before_it_wrote_who_it_is_goes_stale(tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "000001.json").touch()
    assert Ownership.claim(tmp_path) is None
    owner = Ownership.claim(tmp_path, stale_after_s=STALE_AFTER_S, wait=True)
    assert owner.number == 2
    owner.release()


def test_a_claim_that_failed_is_not_an_owner(tmp_path, file_size_limit):
    with file_size_limit(10), pytest.raises(ZiaError, match="cannot claim the run"):
        Ownership.claim(tmp_path)
    assert not is_held(tmp_path)
    owner = Ownership.claim(tmp_path)
    assert owner.number == 1
    owner.release()


def test_a_run_can_be_released_on_a_full_disk(tmp_path, file_size_limit):
    owner = Ownership.claim(tmp_path)
    with file_size_limit(0):
        owner.release()
    assert not is_held(tmp_path)


def test_a_run_whose_folder_was_removed_is_lost(tmp_path):
    owner = Ownership.claim(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(LostOwnershipError, match="it was removed"):
        owner.check()
    owner.release()


def test_a_requeued_job_has_the_runs_of_its_earlier_start_at_once(tmp_path, monkeypatch):
    """Slurm takes the first start for dead; if it is not, it notices at its next write."""
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    orphan = Ownership.claim(tmp_path)
    assert Ownership.claim(tmp_path) is None, "another process of the same start"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "72")
    assert Ownership.claim(tmp_path) is None, "another job"
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    successor = Ownership.claim(tmp_path)
    assert successor.number == 2
    with pytest.raises(LostOwnershipError, match="owner number 2 has taken over"):
        orphan.write_json("result.json", {})
    assert not (tmp_path / "result.json").exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert Ownership.claim(tmp_path) is None, "the orphan does not get it back"
    orphan.release()
    successor.release()


def test_a_watch_sees_from_call_to_call_that_an_owner_has_no_heartbeat(tmp_path, start_child):
    child = start_child(OWN + "sys.stdin.readline()", tmp_path)
    child.stdout.readline()
    watch, stale_after_s = Watch(), 1.0  # a busy machine's owner may stall for a few beats
    deadline = time.monotonic() + 1.5 * stale_after_s
    while time.monotonic() < deadline:  # it beats meanwhile
        assert Ownership.claim(tmp_path, stale_after_s=stale_after_s, watch=watch) is None
        time.sleep(stale_after_s / 10)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not may_be_claimed(tmp_path, watch, stale_after_s=stale_after_s)
    time.sleep(1.5 * stale_after_s)
    assert may_be_claimed(tmp_path, watch, stale_after_s=stale_after_s)
    assert not may_be_claimed(tmp_path, Watch(), stale_after_s=stale_after_s), "its first look"
    owner = Ownership.claim(tmp_path, stale_after_s=stale_after_s, watch=watch)
    assert owner.number == 2
    owner.release()


def test_a_file_that_nfs_keeps_of_a_suspended_owner_does_not_matter(tmp_path, monkeypatch):
    """While the stopped process has it open, its folder cannot be emptied; later it can."""
    stopped = Ownership.claim(tmp_path, stale_after_s=60)
    (stopped.staging / ".nfs000001").touch()
    stopped._ended.set()
    who = json.loads((tmp_path / "owner" / "000001.json").read_text())
    (tmp_path / "owner" / "000001.json").write_text(json.dumps(who | {"start_time": 1}))
    unlink = os.unlink

    def busy(path, **options):
        if str(path).startswith(".nfs"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", busy)
        owner = Ownership.claim(tmp_path)
        assert owner.number == 2
        with pytest.raises(LostOwnershipError):
            stopped.write_json("result.json", {})
        owner.write_json("result.json", {"by": 2})
        owner.release()
    assert list(tmp_path.rglob(".nfs*"))
    Ownership.claim(tmp_path).release()
    assert not list(tmp_path.rglob(".nfs*"))
    assert json.loads((tmp_path / "result.json").read_text()) == {"by": 2}


def test_an_owner_of_an_earlier_version_is_one_all_the_same(tmp_path):
    owner = Ownership.claim(tmp_path)
    path = tmp_path / "owner" / "000001.json"
    record = json.loads(path.read_text())
    del record["slurm_job"], record["restarts"]
    path.write_text(json.dumps(record))
    assert is_held(tmp_path)
    owner.release()
    assert not is_held(tmp_path)
