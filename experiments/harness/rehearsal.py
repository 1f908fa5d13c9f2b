"""Rehearsals: the plan of a profile in a few steps, to find out what will fail before it costs.

The rehearsal of the profile `paper` is the profile `paper-rehearsal`. So its runs have identities
of their own, stand in sections of their own in tables, and are never published.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.harness.spec import RunSpec

SUFFIX = "-rehearsal"
REASON = "rehearsed stop"  # of each run after its first step; it then resumes


@dataclass(frozen=True)
class Rehearsal:
    """What an experiment does in a rehearsal.

    `shorten(spec)` returns the run on a sample of its data, for `two_steps` and with few tokens to
    generate; everything that decides which code runs stays. `write` has a function for each folder
    in $ZIA_DATA, which creates it with stand-ins in the official formats.
    """

    shorten: Callable[[RunSpec], RunSpec]
    write: Mapping[str, Callable[[Path], None]]


def profile_of(profile: str) -> str:
    """The rehearsal of a profile."""
    return profile + SUFFIX


def is_rehearsal(profile: str) -> bool:
    """Whether the profile is a rehearsal of another one."""
    return profile.endswith(SUFFIX)


def rehearsed_profile(profile: str) -> str:
    """The profile that this one rehearses, or itself."""
    return profile.removesuffix(SUFFIX)


def rehearsed(specs: Sequence[RunSpec], rehearsal: Rehearsal) -> Iterator[RunSpec]:
    """Yield one seed of each planned final run, shortened; equal ones once."""
    seen = set()
    for spec in specs:
        if getattr(spec.settings, "phase", "final") != "final":
            continue
        short = rehearsal.shorten(replace(spec, profile=profile_of(spec.profile)))
        what = replace(short, seed=0).identity
        if what not in seen:
            seen.add(what)
            yield short
