"""The committed evidence belongs to the experiments as they are now."""

from pathlib import Path

from experiments.harness import registry, run_paths, stored
from experiments.harness.spec import RunSpec


def test_identities_of_published_runs_do_not_move(repository: Path) -> None:
    """A new setting must keep them: its default is the old behaviour. Each run is as sealed."""
    published = run_paths.every_run(repository / "results" / "published")
    assert len(published) >= 823
    for name, path in published.items():
        run = stored.load_sealed(path)
        assert run.is_sealed
        config = run.config
        spec = RunSpec.from_json(config, registry.get(config["experiment"]).settings)
        assert f"{spec.experiment}/{spec.folder_name}" == name
