"""Ownership of a run: no two processes work on it, even on different machines.

`owner/000003.json` is created exclusively, so each number has one winner, and the highest number
owns the run. `000003.beat` is a heartbeat counter. The owner prepares its files in `000003/`; the
next owner removes that folder, so a process that was suspended between checking its number and
renaming a file into place has nothing left to rename.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Self

from experiments.harness.process_identity import Process
from experiments.io.files import read_json, replacing, write_atomic, write_errors, write_json_atomic
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

OWNER = "owner"  # folder of the numbers, in the run folder
NUMBER = re.compile(r"([0-9]{6,18})\.json")
RELEASED = ".released"  # suffix of the staging folder once its owner releases the run
# Missed heartbeats after which an owner is presumed dead.
BEATS_UNTIL_STALE = 6


class LostOwnershipError(ZiaError):
    """Another process has taken over the run; this one must stop and write nothing."""


class Ownership:
    """The right to write to a run folder, from `claim` until `release` or a takeover."""

    def __init__(self, folder: Path, number: int, beat_s: float) -> None:
        self.folder = folder
        self.number = number
        self._owners = folder / OWNER
        self.staging = self._owners / f"{number:06d}"
        self._beat_s = beat_s
        self._count = 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat_until_ended, daemon=True)

    @classmethod
    def claim(
        cls,
        folder: Path,
        *,
        stale_after_s: float = 60.0,
        wait: bool = False,
        watch: "Watch | None" = None,
    ) -> Self | None:
        """Become the owner of `folder`; return None if another process is, or just became it.

        An owner is replaced if it released the run or its process provably ended. With `wait`, this
        call also watches its heartbeat, by the local clock: it is replaced after `stale_after_s`
        seconds without one, and None is returned at the next beat. With `watch`, it is replaced if
        that observer, over many calls, has seen no heartbeat for so long.
        """
        owners = folder / OWNER
        with write_errors(owners):
            owners.mkdir(parents=True, exist_ok=True)
        last = _last_number(owners)
        if last and not _has_ended(owners, last):
            beat_s = _who(owners, last)[1]
            patience = max(stale_after_s, beat_s * BEATS_UNTIL_STALE)
            is_stale = watch.is_stale if watch else _wait_until_stale
            if not ((wait or watch) and is_stale(owners, last, patience)):
                return None
        owner = cls(folder, last + 1, stale_after_s / BEATS_UNTIL_STALE)
        return owner if owner._win() else None

    def _win(self) -> bool:
        """Claim this number and remove the folders of previous owners; False if it is taken."""
        number = self._file(".json")
        try:
            with number.open("x", encoding="utf-8") as file:
                json.dump({**asdict(Process.current()), "beat_s": self._beat_s}, file)
            self.staging.mkdir()
            if _last_number(self._owners) != self.number:
                return False  # overtaken before the folder existed, so nobody would remove it
            for folder in self._owners.iterdir():
                if folder.is_dir() and folder != self.staging:
                    with suppress(FileNotFoundError):  # its owner has just released it
                        # Renamed first, as a folder being emptied could still be written to.
                        evicted = folder.rename(self.staging / f"evicted-{folder.name}")
                        # NFS keeps open files as .nfs..., with their folder; the next owner
                        # removes them.
                        shutil.rmtree(evicted, ignore_errors=True)
            self.beat()
        except FileExistsError:
            return False
        except (OSError, ZiaError) as error:
            # A failed claim (full disk) must not look like a living owner.
            shutil.rmtree(self.staging, ignore_errors=True)
            number.unlink(missing_ok=True)
            raise ZiaError(f"cannot claim the run in {self.folder}: {error}") from error
        self._heart.start()
        return True

    def beat(self) -> None:
        """Advance the heartbeat counter."""
        self._count += 1
        write_atomic(self._file(".beat"), str(self._count), staging=self.staging)

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self._beat_s):
            try:
                self.beat()
            except ZiaError:
                # The disk may be full for a while; but without the folder, the run is lost.
                if not self.staging.is_dir():
                    return

    def check(self) -> None:
        """Raise LostOwnershipError if another process has taken over the run."""
        try:
            last = _last_number(self._owners)
        except FileNotFoundError:
            last = 0
        if last != self.number:
            reason = f"owner number {last} has taken over" if last else "it was removed"
            raise LostOwnershipError(
                f"the run in {self.folder} is no longer this process's: {reason}"
            )

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Guard a block of writes; LostOwnershipError if the run is lost before or meanwhile."""
        self.check()
        try:
            yield
        except (OSError, ZiaError):
            # The write may have failed because the run was lost, and `staging` removed.
            self.check()
            raise

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path, which becomes `<folder>/<name>` if the block succeeds."""
        with (
            self.guarding(),
            replacing(self.folder / name, staging=self.staging) as temporary,
        ):
            yield temporary
            self.check()

    def write_json(self, name: str, value: object) -> None:
        """Replace `<folder>/<name>` by the JSON of `value`."""
        with self.guarding():
            write_json_atomic(self.folder / name, value, staging=self.staging)

    def release(self) -> None:
        """Give up the run, so that it can be claimed at once; no effect if it is lost."""
        self._ended.set()
        self._heart.join()
        # A rename needs no disk space. If it fails (the run is lost, or its folder gone), the next
        # owner finds out by itself.
        with suppress(OSError):
            self.staging.rename(self._file(RELEASED))

    def _file(self, suffix: str) -> Path:
        return self._owners / f"{self.number:06d}{suffix}"


class Watch:
    """Observes the heartbeats of many owners without waiting, from call to call."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, str | None, float]] = {}

    def is_stale(self, owners: Path, number: int, seconds: float) -> bool:
        """Whether the owner had no heartbeat for so many seconds, as seen by these calls."""
        now, beat = time.monotonic(), _beat(owners, number)
        before = self._seen.get(owners)
        if before is None or before[:2] != (number, beat):
            self._seen[owners] = (number, beat, now)
            return False
        return now - before[2] >= seconds


def is_held(folder: Path) -> bool:
    """Whether the run in `folder` has an owner that has neither released it nor ended."""
    owners = folder / OWNER
    last = _last_number(owners) if owners.is_dir() else 0
    return last > 0 and not _has_ended(owners, last)


def may_be_claimed(folder: Path, watch: Watch, *, stale_after_s: float = 60.0) -> bool:
    """Whether a claim with `watch` would be tried now; counts as a call of that observer."""
    owners = folder / OWNER
    if not is_held(folder):
        return True
    last = _last_number(owners)
    return watch.is_stale(
        owners, last, max(stale_after_s, _who(owners, last)[1] * BEATS_UNTIL_STALE)
    )


def _last_number(owners: Path) -> int:
    """The highest number, ignoring what sync tools and editors leave ("000001 (copy).json")."""
    names = (NUMBER.fullmatch(path.name) for path in owners.iterdir())
    return max((int(name[1]) for name in names if name), default=0)


def _beat(owners: Path, number: int) -> str | None:
    try:
        return (owners / f"{number:06d}.beat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _who(owners: Path, number: int) -> tuple[Process | None, float]:
    """The owner with that number, and the seconds between its heartbeats."""
    try:
        who = read_json(owners / f"{number:06d}.json")
        beat_s = conform_fields({"beat_s": float}, who, "")["beat_s"]
        return Process.from_json(who, ""), beat_s
    except ZiaError:  # killed before it wrote its record
        return None, 0.0


def _has_ended(owners: Path, number: int) -> bool:
    process, _ = _who(owners, number)
    released = (owners / f"{number:06d}{RELEASED}").is_dir()
    return released or (process is not None and process.is_gone())


def _wait_until_stale(owners: Path, number: int, seconds: float) -> bool:
    """Wait for the end or the next heartbeat of the owner; True unless it is alive."""
    seen = _beat(owners, number)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(0.5, seconds / 20))
        if _has_ended(owners, number):
            return True
        if _beat(owners, number) != seen:
            return False
    return True
