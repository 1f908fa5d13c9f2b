"""The committed evidence belongs to the experiments as they are now."""

from pathlib import Path

from experiments.harness import registry, stored
from experiments.harness.spec import RunSpec


def test_identities_of_published_runs_do_not_move(repository: Path) -> None:
    """A new setting must keep them: its default is the old behaviour. Each run is as sealed."""
    published = stored.folders(repository / "results" / "published")
    assert {path.name.rpartition("-")[2] for path in published} >= {"1f61c4769e083299"}
    for path in published:
        run = stored.load_sealed(path)
        assert run.is_sealed
        config = run.config
        spec = RunSpec.from_json(config, registry.get(config["experiment"]).settings)
        assert (spec.experiment, spec.folder_name) == (path.parent.name, path.name)
