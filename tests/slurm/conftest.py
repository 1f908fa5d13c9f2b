"""One cluster for all tests of a process; what they did to it, counted.

Without a Slurm, and where none can be started, every test is skipped with the reason.
"""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from experiments.harness import registry
from tests.slurm.cluster import Cluster, Slurm, is_here, wait_until, why_not
from tests.slurm.grid import (
    PATIENCE_S,
    PROJECT,
    Grid,
    Work,
    differences,
    done_twice,
    tiny_work,
    undisturbed,
)

NewGrid = Callable[..., Grid]


@dataclass
class Ledger:
    """What was done to runs, and what that did to them."""

    kills: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


LEDGER = Ledger()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The Slurm of this machine; where there is none, two nodes of one's own."""
    if is_here():
        yield Slurm()
        return
    if reason := why_not():
        pytest.skip(f"no Slurm: {reason}")
    # Whoever ends the tests gets a cluster that is stopped; in the background, SIGINT is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    short = tempfile.TemporaryDirectory(prefix="zia-slurm-")  # the path of a socket cannot be long
    with short as folder, Cluster(Path(folder)).running() as cluster:
        yield cluster


@pytest.fixture
def cluster(slurm: Slurm) -> Cluster:
    """A cluster whose nodes and priorities may be played with."""
    if not isinstance(slurm, Cluster):
        pytest.skip("it would take a node or the priority away from other people's jobs")
    return slurm


@pytest.fixture(scope="session", autouse=True)
def _the_tiny() -> Iterator[None]:
    before = os.environ.get(registry.OUTSIDE)
    os.environ[registry.OUTSIDE] = "tests.slurm.faulty"
    registry.experiments.cache_clear()
    yield
    registry.experiments.cache_clear()
    os.environ.pop(registry.OUTSIDE)
    if before is not None:
        os.environ[registry.OUTSIDE] = before


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Work], Path]:
    """The folder of runs that nothing and nobody disturbed."""
    made: dict[tuple[str, ...], Path] = {}

    def of(work: Work) -> Path:
        if work.arguments not in made:
            made[work.arguments] = undisturbed(work, tmp_path_factory.mktemp("undisturbed"))
        return made[work.arguments]

    return of


@pytest.fixture
def new_grid(slurm: Slurm, tmp_path: Path) -> Iterator[NewGrid]:
    """Grids in a folder that all nodes see; their jobs are gone at the end."""
    place = tmp_path
    if not isinstance(slurm, Cluster):
        place = Path(tempfile.mkdtemp(prefix="test-slurm-", dir=PROJECT / "results"))
    grids: list[Grid] = []

    def new(work: str | Work, name: str = "grid", **resources: Any) -> Grid:
        """A grid of some work, or of a profile of the tiny experiment."""
        work = tiny_work(work) if isinstance(work, str) else work
        grids.append(Grid(slurm, place / name, work, **resources))
        return grids[-1]

    yield new
    for grid in grids:
        grid.cancel()
        wait_until(lambda grid=grid: not grid.jobs(), PATIENCE_S, "the jobs have ended")
    if place != tmp_path:
        shutil.rmtree(place)


@pytest.fixture
def killed() -> Callable[[str], None]:
    """Note down that something was killed, stopped or interrupted."""
    return LEDGER.kills.append


@pytest.fixture
def audit(reference: Callable[[Work], Path]) -> Callable[..., None]:
    """All runs of a grid are done, once, and are byte for byte what they would have been.

    Those that nobody disturbed are made here, unless they are given.
    """

    def check(grid: Grid, quiet: Path | None = None) -> None:
        lost = [] if grid.is_done() else [str(grid.runs)]
        lost += [] if lost else differences(grid, quiet or reference(grid.work))
        twice = done_twice(grid)
        LEDGER.lost += lost
        LEDGER.twice += twice
        assert (lost, twice) == ([], []), grid.story()

    return check


def pytest_sessionfinish(session: Any) -> None:
    """Hand the count of a process of `pytest -n` over."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ledger"] = asdict(LEDGER)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the count of such a process."""
    for name, found in getattr(node, "workeroutput", {}).get("ledger", {}).items():
        getattr(LEDGER, name).extend(found)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the count."""
    for kind, number in Counter(LEDGER.kills).items():
        terminalreporter.write_line(f"{number:4} {kind}")
    terminalreporter.write_line(
        f"kills tried: {len(LEDGER.kills)}; runs lost: {len(LEDGER.lost)}; "
        f"runs done twice: {len(LEDGER.twice)}"
    )
