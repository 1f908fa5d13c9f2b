"""Nodes on which no run gets going: their jobs begin again elsewhere, and the others keep away.

A node that lacks the GPU, the mount or a library ends every job at once and is free for the next
one: it would eat a whole array. So a job that ends badly before any of its runs has taken a step
names its node in `<submission>/unfit/`, and Slurm is asked to start it, and whatever of its array
still waits, on others. A batch script's last lines see to that, since Python may be what does not
start. Where the same happens on one node after the other, it is not the nodes.
"""

import os
import shlex

from experiments.dispatch import squeue
from experiments.dispatch.submission import Submission
from experiments.io.files import write_errors

UNFIT = "unfit"  # in the folder of a submission: a file for each such node
STARTED = "started"  # there too: a file for each start of a job in which a run took a step
MOST = 2  # nodes that a submission may hold for unfit
SPARE = "ZIA_SPARE_NODES"  # how many that are here: another one has to remain
NOT_THE_NODE = 78  # the exit code of a job that would end like this on every node
# Behind srun. 129 and so on: HUP, INT, QUIT, KILL, USR2, TERM, which somebody has sent.
TEARDOWN = """\
zia_code=$?
zia_folder={folder}
zia_job="${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"
zia_start="$zia_folder/{started}/$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}"
case "$zia_code" in 0|{blameless}|129|130|131|137|140|143) zia_bad= ;; *) zia_bad=1 ;; esac
if [ -e "$zia_start" ]; then
  zia_bad=
elif [ -n "$zia_bad" ] &&
    ! squeue --noheader --job "$zia_job" --format %j 2>/dev/null | grep -Fxq {name}; then
  echo "zia: job $zia_job is not known to be {name}, and left alone"
  zia_bad=
fi
if [ -n "$zia_bad" ] && touch "$zia_folder/{unfit}/$SLURMD_NODENAME"; then
  trap "" TERM
  zia_nodes=$(ls "$zia_folder/{unfit}" | paste -sd,)
  echo "zia: no run gets going on node $SLURMD_NODENAME (exit code $zia_code, the reason is above)"
  if [ "$(ls "$zia_folder/{unfit}" | wc -l)" -le "${spare}" ]; then
    echo "zia: this job starts again, and no other of its array starts there; avoided: $zia_nodes"
    scontrol requeue "$zia_job"
    scontrol update jobid="$zia_job" ExcNodeList={exclude}"$zia_nodes" || scancel "$zia_job"
    scontrol update jobid="${{zia_job%_*}}" ExcNodeList={exclude}"$zia_nodes" >/dev/null 2>&1
  else
    echo "zia: not started again: that is so on $zia_nodes, and no other node is to be tried"
  fi
fi
exit "$zia_code"
"""


def prepare(submitted: Submission) -> None:
    """Make the folders that jobs write into."""
    for name in (UNFIT, STARTED):
        with write_errors(submitted.folder / name):
            (submitted.folder / name).mkdir(exist_ok=True)


def spare_nodes(partition: str | None) -> int:
    """How many nodes of a partition may be held for unfit: one is to remain, and 0 if unknown."""
    return max(0, min(MOST, len(squeue.nodes(partition)) - 1))


def teardown(submitted: Submission, group: int) -> list[str]:
    """The last lines of a group's batch script; $ZIA_SPARE_NODES is to be in its environment."""
    exclude = submitted.groups[group].resources["exclude"]
    text = TEARDOWN.format(
        folder=shlex.quote(str(submitted.folder)),
        name=submitted.job_name(group),
        started=STARTED,
        unfit=UNFIT,
        blameless=NOT_THE_NODE,
        spare=SPARE,
        exclude=shlex.quote(f"{exclude},") if exclude else "",
    )
    return text.splitlines()


def gets_going(submitted: Submission) -> None:
    """Note down, in a job, that a run has taken a step: from now on the node is not to blame."""
    start = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT') or 0}"
    path = submitted.folder / STARTED / start
    with write_errors(path):
        path.touch()


def may_be_left(submitted: Submission) -> bool:
    """Whether this node, if nothing gets going on it, is one that the script will keep away from.

    The node is counted from now on, so that two which fail at once know of one another.
    """
    path = submitted.folder / UNFIT / os.environ.get("SLURMD_NODENAME", "")
    with write_errors(path):
        path.touch()
    return len(avoided(submitted)) <= int(os.environ.get(SPARE) or 0)


def avoided(submitted: Submission) -> list[str]:
    """The names of the nodes that are held for unfit."""
    names = (path.name for path in submitted.folder.glob(f"{UNFIT}/*"))
    return sorted(name for name in names if not name.startswith("."))  # .nfs..., .DS_Store
