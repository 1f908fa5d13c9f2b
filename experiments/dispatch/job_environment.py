"""What an environment says of a job or a rank that a process merely comes from.

A shell inside a Slurm job, or a launcher of processes, hands its variables on to whatever is
started there. A job submitted from it would take itself for that one, and Slurm's commands would
take options from it: nothing is passed on but what says where the cluster is and who pays.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of jobs, and options of Slurm's commands, which go over those in a script and hide jobs in a queue
OF_JOBS = (
    *("SLURM", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SCANCEL_", "SCONTROL_", "SINFO_"),
    *("SUBMITIT_", "_TEST_CLUSTER_", "PMI", "OMPI_"),
)
KEPT = {
    *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"),
    *(
        "SBATCH_ACCOUNT",
        "SBATCH_PARTITION",
        "SBATCH_QOS",
        "SBATCH_CONSTRAINT",
        "SBATCH_RESERVATION",
    ),
}
# The GPUs that a job was given; the next one gets its own
GPUS = {
    *("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"),
}
# Which process of how many torchrun has started
RANKS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
}


def is_of_a_job(name: str) -> bool:
    """Whether a variable belongs to a job of Slurm's or changes what its commands do."""
    return name.startswith(OF_JOBS) and name not in KEPT


def without_jobs() -> dict[str, str]:
    """This process's environment for a command of Slurm's, which then does the same everywhere."""
    return {name: value for name, value in os.environ.items() if not is_of_a_job(name)}


def forget_ranks() -> None:
    """Be no rank of others: libraries read these variables, and `zia` starts ranks of its own."""
    for name in RANKS & os.environ.keys():
        del os.environ[name]


@contextmanager
def nothing_inherited(*besides: str) -> Iterator[None]:
    """Within the block the environment has nothing of a job or a rank, nor the names given."""
    unwanted = GPUS | RANKS | {*besides}
    names = [name for name in os.environ if is_of_a_job(name) or name in unwanted]
    removed = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(removed)
