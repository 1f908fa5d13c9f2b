"""Requeue jobs away from bad nodes.

A node without its GPU, a mount or a library fails every job at once and is free for the next: it
would drain a whole array. A job that fails before any run has taken a step therefore records its
node in `<submission>/bad_nodes/`, and Slurm is asked to start it, and the pending rest of its
array, elsewhere. The last lines of the batch script do this, as Python itself may fail to start.
If several nodes fail in a row, the nodes are not to blame, and jobs are not restarted.
"""

import os
import shlex

from experiments.dispatch import squeue
from experiments.dispatch.submission import Submission
from experiments.io.files import write_errors

BAD_NODES = "bad_nodes"  # in the submission folder: one file per bad node
STARTED = "started"  # one file per start of a job in which a run took a step
MAX_BAD_NODES = 2  # that a submission may exclude
SPARE_NODES = "ZIA_SPARE_NODES"  # how many of these nodes may be excluded
EXIT_NOT_THE_NODE = 78  # exit code of a job that would fail on every node
# Runs after srun. 129 to 143 are signals that somebody sent: HUP, INT, QUIT, KILL, USR2, TERM.
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
  echo "zia: job $zia_job is not known as {name}: left alone"
  zia_bad=
fi
if [ -n "$zia_bad" ] && touch "$zia_folder/{bad_nodes}/$SLURMD_NODENAME"; then
  trap "" TERM
  zia_nodes=$(ls "$zia_folder/{bad_nodes}" | paste -sd,)
  echo "zia: no run starts on node $SLURMD_NODENAME (exit code $zia_code, see above)"
  if [ "$(ls "$zia_folder/{bad_nodes}" | wc -l)" -le "${spare}" ]; then
    echo "zia: this job is requeued, its array avoids: $zia_nodes"
    scontrol requeue "$zia_job"
    scontrol update jobid="$zia_job" ExcNodeList={exclude}"$zia_nodes" || scancel "$zia_job"
    scontrol update jobid="${{zia_job%_*}}" ExcNodeList={exclude}"$zia_nodes" >/dev/null 2>&1
  else
    echo "zia: not requeued: no run starts on $zia_nodes, and no other nodes are tried"
  fi
fi
exit "$zia_code"
"""


def prepare(submitted: Submission) -> None:
    """Create the folders that jobs write to."""
    for name in (BAD_NODES, STARTED):
        with write_errors(submitted.folder / name):
            (submitted.folder / name).mkdir(exist_ok=True)


def max_bad_nodes(partition: str | None) -> int:
    """How many nodes of a partition may be excluded: one must remain; 0 if unknown."""
    return max(0, min(MAX_BAD_NODES, len(squeue.nodes(partition)) - 1))


def teardown(submitted: Submission, group: int) -> list[str]:
    """The last lines of a group's batch script; they read $ZIA_SPARE_NODES."""
    exclude = submitted.groups[group].resources["exclude"]
    text = TEARDOWN.format(
        folder=shlex.quote(str(submitted.folder)),
        name=submitted.job_name(group),
        started=STARTED,
        bad_nodes=BAD_NODES,
        blameless=EXIT_NOT_THE_NODE,
        spare=SPARE_NODES,
        exclude=shlex.quote(f"{exclude},") if exclude else "",
    )
    return text.splitlines()


def mark_started(submitted: Submission) -> None:
    """Record that a run of this job has taken a step: the node is fine."""
    start = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT') or 0}"
    path = submitted.folder / STARTED / start
    with write_errors(path):
        path.touch()


def mark_bad(submitted: Submission) -> bool:
    """Record this node as bad; return whether the batch script may still exclude it."""
    path = submitted.folder / BAD_NODES / os.environ.get("SLURMD_NODENAME", "")
    with write_errors(path):
        path.touch()
    return len(avoided(submitted)) <= int(os.environ.get(SPARE_NODES) or 0)


def avoided(submitted: Submission) -> list[str]:
    """The names of the bad nodes."""
    names = (path.name for path in submitted.folder.glob(f"{BAD_NODES}/*"))
    return sorted(name for name in names if not name.startswith("."))  # .nfs..., .DS_Store
