"""One run is never worked on by two processes: numbered owners, and a fence around the last one.

`owner/000003.json` is created exclusively, so a number has one winner, and the highest number owns
the run. `000003.beat` counts while its owner lives. `000003/` is where the owner prepares its
files: the next owner takes that folder away, so that a process which was stopped between looking at
the number and renaming a file into place finds nothing left to rename.
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

OWNER = "owner"  # the folder of the numbers, inside a run folder
NUMBER = re.compile(r"([0-9]{6,18})\.json")
RELEASED = ".released"  # what the folder of a number becomes when its owner gives the run up
# A counter that should have moved this many times is not merely late.
BEATS_UNTIL_STALE = 6


class LostOwnershipError(ZiaError):
    """Another process has taken the run over; this one must stop and write nothing more."""


class Ownership:
    """The right to write into one run folder, from `claim` until `release` or a takeover."""

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
        """Become the owner of `folder`, or return None because another process is (or just won).

        An owner makes way when it released the run or its process provably ended. With `wait` it
        is watched besides, on this process's own clock: it makes way when its counter stands still
        for `stale_after_s` seconds, and None is returned as soon as the counter moves. With `watch`
        it makes way if it stood still during the looks of that observer, of which this is one.
        """
        owners = folder / OWNER
        with write_errors(owners):
            owners.mkdir(parents=True, exist_ok=True)
        last = _last_number(owners)
        if last and not _made_way(owners, last):
            beat_s = _who(owners, last)[1]
            patience = max(stale_after_s, beat_s * BEATS_UNTIL_STALE)
            stands_still = watch.look if watch else _stands_still
            if not ((wait or watch) and stands_still(owners, last, patience)):
                return None
        owner = cls(folder, last + 1, stale_after_s / BEATS_UNTIL_STALE)
        return owner if owner._win() else None

    def _win(self) -> bool:
        """Create this number and take the previous owners' folders away; False if it is taken."""
        number = self._file(".json")
        try:
            with number.open("x", encoding="utf-8") as file:
                json.dump({**asdict(Process.current()), "beat_s": self._beat_s}, file)
            self.staging.mkdir()
            if _last_number(self._owners) != self.number:
                return False  # overtaken before the folder existed, so nobody would take it away
            for folder in self._owners.iterdir():
                if folder.is_dir() and folder != self.staging:
                    with suppress(FileNotFoundError):  # its owner woke up and released just now
                        # Renamed first: a folder being emptied could still be written into.
                        evicted = folder.rename(self.staging / f"evicted-{folder.name}")
                        # NFS keeps a file that is open somewhere, as .nfs..., and its folder; the
                        # next owner takes them away with this one's.
                        shutil.rmtree(evicted, ignore_errors=True)
            self.beat()
        except FileExistsError:
            return False
        except (OSError, ZiaError) as error:
            # A claim that failed (full disk) must not look like an owner that is at work.
            shutil.rmtree(self.staging, ignore_errors=True)
            number.unlink(missing_ok=True)
            raise ZiaError(f"cannot claim the run in {self.folder}: {error}") from error
        self._heart.start()
        return True

    def beat(self) -> None:
        """Move the counter that tells observers that this owner is alive."""
        self._count += 1
        write_atomic(self._file(".beat"), str(self._count), staging=self.staging)

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(self._beat_s):
            try:
                self.beat()
            except ZiaError:
                # A full disk may be freed again; without the folder the run is somebody else's.
                if not self.staging.is_dir():
                    return

    def check(self) -> None:
        """Raise LostOwnershipError if another process has taken the run over."""
        try:
            last = _last_number(self._owners)
        except FileNotFoundError:
            last = 0
        if last != self.number:
            reason = f"owner number {last} has taken it over" if last else "it was removed"
            raise LostOwnershipError(
                f"the run in {self.folder} is no longer this process's: {reason}"
            )

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Run a block of writes: LostOwnershipError if the run is lost before or meanwhile."""
        self.check()
        try:
            yield
        except (OSError, ZiaError):
            # If the run was lost, that is why the write failed: `staging` was taken away.
            self.check()
            raise

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a temporary path to write; it becomes `<folder>/<name>` when the block succeeds."""
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
        """Let the next one have the run at once; does nothing if it is lost already."""
        self._ended.set()
        self._heart.join()
        # A rename needs no space on a full disk. Where it fails (the run is lost, or its folder
        # gone), the next owner finds out by itself.
        with suppress(OSError):
            self.staging.rename(self._file(RELEASED))

    def _file(self, suffix: str) -> Path:
        return self._owners / f"{self.number:06d}{suffix}"


class Watch:
    """An observer of many owners that never waits: it compares a look with the one before."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, str | None, float]] = {}

    def look(self, owners: Path, number: int, seconds: float) -> bool:
        """Whether that owner's counter has not moved, from look to look, for so many seconds."""
        now, beat = time.monotonic(), _beat(owners, number)
        before = self._seen.get(owners)
        if before is None or before[:2] != (number, beat):
            self._seen[owners] = (number, beat, now)
            return False
        return now - before[2] >= seconds


def is_held(folder: Path) -> bool:
    """Whether the run in `folder` has an owner that neither released it nor provably ended."""
    owners = folder / OWNER
    last = _last_number(owners) if owners.is_dir() else 0
    return last > 0 and not _made_way(owners, last)


def may_be_claimed(folder: Path, watch: Watch, *, stale_after_s: float = 60.0) -> bool:
    """Whether a claim with `watch` would be tried now; a look of that observer."""
    owners = folder / OWNER
    if not is_held(folder):
        return True
    last = _last_number(owners)
    return watch.look(owners, last, max(stale_after_s, _who(owners, last)[1] * BEATS_UNTIL_STALE))


def _last_number(owners: Path) -> int:
    """The highest number; what synchronisation and editors leave ("000001 (copy).json") is none."""
    names = (NUMBER.fullmatch(path.name) for path in owners.iterdir())
    return max((int(name[1]) for name in names if name), default=0)


def _beat(owners: Path, number: int) -> str | None:
    try:
        return (owners / f"{number:06d}.beat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _who(owners: Path, number: int) -> tuple[Process | None, float]:
    """The owner of that number and the seconds between its beats."""
    try:
        who = read_json(owners / f"{number:06d}.json")
        beat_s = conform_fields({"beat_s": float}, who, "")["beat_s"]
        return Process.from_json(who, ""), beat_s
    except ZiaError:  # killed before it had written who it is
        return None, 0.0


def _made_way(owners: Path, number: int) -> bool:
    process, _ = _who(owners, number)
    released = (owners / f"{number:06d}{RELEASED}").is_dir()
    return released or (process is not None and process.is_gone())


def _stands_still(owners: Path, number: int, seconds: float) -> bool:
    """Whether the owner makes way within `seconds`, or its counter does not move for so long."""
    seen = _beat(owners, number)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(0.5, seconds / 20))
        if _made_way(owners, number):
            return True
        if _beat(owners, number) != seen:
            return False
    return True
