"""Clear inherited Slurm and torchrun variables from the environment.

A shell inside a Slurm job passes the job's variables on to everything started there. A job
submitted from it would take itself for that job, and Slurm's commands would read options from
them. Only the variables that say where the cluster is and who pays are kept.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of jobs; and options of Slurm's commands, which override a script's and hide jobs from squeue.
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
# GPUs of the job; a new one gets its own.
GPUS = {
    *("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"),
}
# Ranks, as set by torchrun.
RANKS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
}


def is_job_variable(name: str) -> bool:
    """Whether a variable belongs to a Slurm job or changes what Slurm's commands do."""
    return name.startswith(OF_JOBS) and name not in KEPT


def without_job_variables() -> dict[str, str]:
    """This process's environment for a Slurm command, without job variables."""
    return {name: value for name, value in os.environ.items() if not is_job_variable(name)}


def forget_ranks() -> None:
    """Drop inherited rank variables: libraries read them, and `zia` starts its own ranks."""
    for name in RANKS & os.environ.keys():
        del os.environ[name]


@contextmanager
def clean_environment(*besides: str) -> Iterator[None]:
    """Within the block, hide job, GPU and rank variables, and those in `besides`."""
    unwanted = GPUS | RANKS | {*besides}
    names = [name for name in os.environ if is_job_variable(name) or name in unwanted]
    removed = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(removed)
