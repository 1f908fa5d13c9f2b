"""What a run of this experiment reads."""

from functools import partial

from experiments.backbones import language_models
from experiments.data import subsets as named
from experiments.data.files import official_file
from experiments.harness.needs import DataSet, Needs
from experiments.harness.spec import RunSpec
from experiments.language.squad_files import SOURCE, squad_file
from experiments.mini_world.provided import PROFILE as MINI
from experiments.squad_roberta.data import load_squad
from experiments.squad_roberta.subsets import FOLDER, TASKS, WHOLE


def needs(spec: RunSpec) -> Needs:
    """Weights, training questions and dev questions."""
    weights = (language_models.get(spec.backbone),)
    if spec.profile == MINI:
        return Needs(weights)
    version = TASKS[spec.task]
    dev = squad_file(version, "dev", partial(load_squad, version, "dev"))
    train = squad_file(version, "train", partial(load_squad, version, "train"))
    if spec.data not in WHOLE:
        file = named.read_subset(FOLDER, spec.data)["train_file"]
        if official_file(f"squad/{file}") is not None:  # else the whole training set serves
            load = partial(load_squad, version, "train", file)
            train = DataSet(f"SQuAD {file}", (f"squad/{file}",), SOURCE, load)
    return Needs(weights, (train, dev))
