"""How long to train: the shortest length whose doubling improves no method, at most `LONGEST`.

The rule is applied to trial runs of zero-init and LoRA, with seeds that are never reported, scored
on held-out data by the score that the experiment's claims compare. At each length a method counts
with its better rate, as it will when its rate is chosen. A length is enough if

- doubling it improves the mean score of neither method by as much as its standard error over the
  seeds, pooled over both lengths, and
- the training loss of both has fallen by a fifth, as every row of a table has to: two lengths on
  the plateau that training begins with do not differ either.

A score that gets worse is no reason to train longer. All methods get that length. Where none of the
lengths that fit into the first stage of `make reproduce` is enough, they get the longest that does,
and the tables say what its last doubling still changed. `Trials.rates` has how long each rate was
tried: to save time, most that were not the best at 4 epochs stop there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from statistics import mean, variance
from typing import Any, Literal

from experiments.harness import run_paths, stored
from experiments.harness.spec import RunSpec
from experiments.training.recipe import Recipe
from zia_core.errors import ZiaError

SEEDS = (900, 901, 902)
WARMUP = 10  # a tenth of a trial warms up, as of every run of `mini`
TRAINED = 0.8  # of the training loss at its beginning, at most
LONGEST = 8  # epochs; of all experiments, twice as many would not fit into 15 minutes

# The result of a run, or None if its loss was not finite.
ResultOf = Callable[[RunSpec], Mapping[str, Any] | None]


def results_in(runs: Path) -> ResultOf:
    """Return the results of the runs in a folder, or in the archives there.

    Looking up a run that is not there is a ZiaError, as is one that is not as it was sealed.
    """
    there = run_paths.every_run(runs)

    def result_of(spec: RunSpec) -> Mapping[str, Any] | None:
        name = f"{spec.experiment}/{spec.folder_name}"
        if name not in there:
            raise ZiaError(f"{runs} lacks the trial run {name}: do it with --reselect")
        path = there[name]
        if isinstance(path, Path) and stored.has_diverged(path):  # archives have no failed runs
            return None
        return stored.load_sealed(path).result

    return result_of


@dataclass(frozen=True)
class Level:
    """How good a method is after one length of training."""

    rate: float
    mean: float  # of the score, over the seeds
    variance: float
    is_trained: bool


@dataclass(frozen=True)
class Trials:
    """The trial runs of an experiment. Each length is twice the one before."""

    recipe: Recipe
    tasks: Sequence[str]  # the score of a seed is the mean over these
    score: str  # a field of result.json
    better: Literal["higher", "lower"]
    rates: Mapping[str, Mapping[float, int]]  # of each method, with the longest length tried
    lengths: Sequence[int]  # epochs
    settings: Mapping[str, Any] = field(default_factory=dict)  # such as the split they score

    def runs(self) -> Iterator[RunSpec]:
        """Yield every trial run, the shortest first."""
        for length in self.lengths:
            for method, rates in self.rates.items():
                for rate, longest in rates.items():
                    if length <= longest:
                        yield from self._seeds(method, rate, length)

    def level(self, method: str, length: int, result_of: ResultOf) -> Level:
        """Return the level of a method at the better of its rates.

        A rate at which a seed diverged is out; ValueError if that leaves none.
        """
        rates = [rate for rate, longest in self.rates[method].items() if length <= longest]
        found = [self._level(method, rate, length, result_of) for rate in rates]
        sign = self._sign
        return max(filter(None, found), key=lambda level: sign * level.mean)

    def gain(self, method: str, length: int, result_of: ResultOf) -> float:
        """Return what doubling a length improves, in standard errors of the mean score."""
        short, long = (self.level(method, each, result_of) for each in (length, 2 * length))
        error = sqrt((short.variance + long.variance) / 2 / len(SEEDS))
        improvement = self._sign * (long.mean - short.mean)
        if error == 0.0:
            return 0.0 if improvement == 0.0 else improvement * float("inf")
        return improvement / error

    def shortest(self, result_of: ResultOf) -> int | None:
        """Return the shortest length that is enough; None if none of the tried ones is."""
        for length in self.lengths[:-1]:
            trained = all(self.level(m, length, result_of).is_trained for m in self.rates)
            if trained and all(self.gain(m, length, result_of) < 1.0 for m in self.rates):
                return length
        return None

    def length(self, result_of: ResultOf) -> int:
        """Return the length of all runs."""
        return min(self.shortest(result_of) or LONGEST, LONGEST)

    @property
    def _sign(self) -> float:
        return 1.0 if self.better == "higher" else -1.0

    def _seeds(self, method: str, rate: float, length: int) -> Iterator[RunSpec]:
        defaults = type(self.recipe.settings)()
        recipe = replace(self.recipe, seeds=SEEDS)
        unused = ("candidates", "selection_seed", "selection_epochs")
        for task in self.tasks:
            yield from recipe.runs(
                task,
                {method: len(SEEDS)},
                **{name: getattr(defaults, name) for name in unused},
                phase="select",
                peak_lr=rate,
                epochs=float(length),
                warmup_epochs=length / WARMUP,
                **self.settings,
            )

    def _level(self, method: str, rate: float, length: int, result_of: ResultOf) -> Level | None:
        by_seed: dict[int, list[Mapping[str, Any]]] = {seed: [] for seed in SEEDS}
        for spec in self._seeds(method, rate, length):
            result = result_of(spec)
            if result is None:
                return None
            by_seed[spec.seed].append(result)
        scores = [mean(result[self.score] for result in results) for results in by_seed.values()]
        first, last = (
            mean(result[name] for results in by_seed.values() for result in results)
            for name in ("train_loss_first", "train_loss_last")
        )
        return Level(rate, mean(scores), variance(scores), last <= TRAINED * first)
