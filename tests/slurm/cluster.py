"""A real Slurm: the one that is here, or two nodes on this host, all of it in one private folder.

`with Cluster(folder).running()`: munged, slurmctld and two slurmd, each with its own files under
`folder` and nothing in the system's places. As a script it is for trying things by hand:
`python -m tests.slurm.cluster FOLDER`, then in another shell `. FOLDER/environment`, `sinfo`, ...
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = ("n1", "n2")
CPUS = 4  # a node's, whatever this host has: the jobs of the tests mostly wait
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo")

# Preemption requeues: jobs in `urgent` take the place of those in `normal`. A node that does not
# answer for 15 s is down, and its jobs are requeued. Nothing depends on cgroups or on an accounting
# database.
CONFIG = """\
ClusterName=zia
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
FirstJobId={first_job}
SlurmdSpoolDir={folder}/spool-%n
SlurmdTimeout=15
SlurmctldTimeout=30
KillWait=30
MinJobAge=600
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
{nodes}
PartitionName=normal Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=60 State=UP
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
"""


class Slurm:
    """The Slurm that this machine's commands talk to; jobs of others may be on it."""

    environment: Mapping[str, str] = {}  # what makes them talk to it
    partition: str | None = None  # None: its default

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run one of Slurm's commands; return what it prints."""
        done = subprocess.run(
            arguments,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows about one job: JobState, Restarts, BatchHost, ..."""
        text = self.command("scontrol", "show", "job", "--oneliner", job)
        return dict(word.partition("=")[::2] for word in text.split() if "=" in word)

    def release(self, jobs: Iterable[str]) -> None:
        """End the two minutes for which Slurm holds these jobs if they were requeued."""
        waiting = self.command("squeue", "--noheader", "--array", "--state=PD", "--format=%i")
        if held := set(jobs) & set(waiting.split()):
            # A node refuses a job that starts again within the second in which it was killed.
            time.sleep(2)
        for job in held:
            self.command("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)


class Cluster(Slurm):
    """Two nodes, `n1` and `n2`, whose jobs share this host's files and processes."""

    partition = "normal"

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        """Start all daemons; cancel all jobs and stop all daemons at the end."""
        self._configure()
        try:
            self._start_munge()
            self._start("slurmctld", ["slurmctld", "-D", "-f", self.environment["SLURM_CONF"]])
            for node in NODES:
                self.start_node(node)
            wait_until(self._is_idle, 60, "both nodes are idle", self._diagnosis)
            yield self
        finally:
            self._stop()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        config = self.environment["SLURM_CONF"]
        self._start(node, ["slurmd", "-D", "-N", node, "-f", config])

    def kill_node(self, node: str) -> None:
        """SIGKILL the slurmd of a node; the processes of its jobs go on, unseen."""
        self._daemons[node].kill()
        self._daemons.pop(node).wait()

    def processes(self, job: str) -> list[int]:
        """The processes of an element of a job array, which have its number in the environment."""
        array, _, task = job.partition("_")
        wanted = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode()}
        found = []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it has ended, or is not ours
                if wanted <= set(place.read_bytes().split(b"\0")):
                    found.append(int(place.parent.name))
        return found

    @contextmanager
    def wanted_by_others(self, *nodes: str) -> Iterator[None]:
        """Within the block, somebody of more importance has these nodes for himself."""
        job = self.command(
            "sbatch",
            "--parsable",
            "--partition=urgent",
            f"--nodelist={','.join(nodes)}",
            f"--nodes={len(nodes)}",
            "--exclusive",
            "--output=/dev/null",
            "--wrap=sleep 3600",
        )
        try:
            yield
        finally:
            self.command("scancel", job)

    def _configure(self) -> None:
        for name in ("state", "munge", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        ports = _free_ports(1 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={CPUS} RealMemory=16000 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        text = CONFIG.format(
            folder=self.folder,
            user=getpass.getuser(),
            controller_port=ports[0],
            nodes=nodes,
            first_job=1000 * ports[0],  # several clusters on this host have different jobs
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "environment").write_text(
            "".join(f"export {name}='{value}'\n" for name, value in self.environment.items())
        )

    def _start_munge(self) -> None:
        home = self.folder / "munge"
        key = home / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        home.chmod(0o755)
        files = {"key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={home / name}" for option, name in files.items()]
        # --force: a folder of the user's own may be readable by others.
        self._start(
            "munged", ["munged", "--foreground", "--force", f"--socket={home}/socket", *options]
        )
        wait_until((home / "socket").is_socket, 20, "munged listens", self._diagnosis)

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the test, which then stops them in order
            )

    def _is_idle(self) -> bool:
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                raise RuntimeError(f"{name} ended with {daemon.returncode}: {self._diagnosis()}")
        states = self.command("sinfo", "--noheader", "--Node", "--format=%t", check=False).split()
        return bool(states) and set(states) == {"idle"}

    def _diagnosis(self) -> str:
        logs = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"{log}: {log.read_text()[-600:]}" for log in logs)

    def _stop(self) -> None:
        if "slurmctld" in self._daemons:
            self.command("scancel", "--signal=KILL", *self._users(), check=False)
            self.command("scancel", *self._users(), check=False)
            deadline = time.monotonic() + 20
            while self.command("squeue", "--noheader", check=False) and time.monotonic() < deadline:
                time.sleep(0.2)
        for name in (*NODES, "slurmctld", "munged"):
            if name in self._daemons:
                daemon = self._daemons.pop(name)
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()

    def _users(self) -> tuple[str, str]:
        return ("--user", getpass.getuser())


def is_here() -> bool:
    """Whether this machine has a Slurm that answers."""
    if shutil.which("squeue") is None:
        return False
    return subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0


def why_not() -> str:
    """Why no cluster can be started here; nothing if it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def wait_until(
    condition: Callable[[], object],
    seconds: float,
    what: str,
    diagnosis: Callable[[], str] = str,
) -> None:
    """Poll until `condition()` holds; RuntimeError with the diagnosis if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}\n{diagnosis()}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1])).running() as cluster:
        print(f"running; `. {cluster.folder}/environment`; Ctrl-C stops it", flush=True)
        with suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pause()
