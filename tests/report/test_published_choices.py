"""What published runs chose: a best rate at the edge of its grid may not be the best."""

from pathlib import Path

from experiments.harness import run_paths, stored


def test_no_published_rate_is_at_the_edge_of_its_grid(repository: Path) -> None:
    edges, chosen = set(), 0
    for name, path in run_paths.every_run(repository / "results" / "published").items():
        run = stored.load(path)
        settings = run.config["settings"]
        if settings.get("phase") != "final" or not settings.get("candidates"):
            continue
        rates = [one[0] if isinstance(one, list) else one for one in settings["candidates"]]
        chosen += 1
        if not min(rates) < run.result["peak_lr"] < max(rates):
            edges.add((name.split("-vit_")[0], run.result["peak_lr"]))
    assert chosen > 500
    assert edges == set()
