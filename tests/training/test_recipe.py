"""Run specs from a table of methods and numbers of seeds."""

from dataclasses import dataclass, replace

from experiments.training.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    width: int = 1
    rate: float = 0.1
    depth: int = 1


RECIPE = Recipe(
    "toy", 2, "mini", "model", "data", Settings(width=7),
    {"plain": {}, "tuned": {"rate": 0.5, "depth": 3}},
    seeds=(42, 44, 82),
)  # fmt: skip


def test_each_method_has_the_first_of_the_seeds() -> None:
    specs = list(RECIPE.runs("task", {"tuned": 2, "plain": 1}))
    assert [(spec.method, spec.seed) for spec in specs] == [
        ("tuned", 42), ("tuned", 44), ("plain", 42),
    ]  # fmt: skip
    of_a_run = {(s.experiment, s.version, s.profile, s.backbone, s.data, s.task) for s in specs}
    assert of_a_run == {("toy", 2, "mini", "model", "data", "task")}


def test_a_method_changes_the_recipe_and_a_run_changes_its_method() -> None:
    (tuned,) = RECIPE.runs("task", {"tuned": 1}, depth=9)
    assert tuned.settings == Settings(width=7, rate=0.5, depth=9)
    (plain,) = replace(RECIPE, settings=Settings()).runs("task", {"plain": 1})
    assert plain.settings == Settings()
