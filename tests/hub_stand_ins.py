"""Tiny stand-ins for what `zia fetch` brings, at the names and revisions that the project pins."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.alpaca_llama import data as alpaca
from experiments.backbones import language_models
from experiments.language.squad_files import HUB as SQUAD
from experiments.language.squad_files import HUB_SPLITS
from experiments.mini_world import world
from experiments.rehearsal.twins import write_twin
from tests.hub_server import HubServer


def parquet(rows: list[dict[str, Any]], **features: Any) -> bytes:
    """The rows as a file of the hub's."""
    from datasets import Dataset

    file = io.BytesIO()
    table = Dataset.from_list(rows)
    for name, feature in features.items():
        table = table.cast_column(name, feature)
    table.to_parquet(file)
    return file.getvalue()


def serve_model(hub: HubServer, name: str, folder: Path) -> None:
    """A narrow model of the same class and depth, with a tokenizer."""
    write_twin(name, folder)
    source = language_models.get(name)
    written = [path for path in (folder / source.folder).iterdir() if path.name != "twin.json"]
    files = {path.name: path.read_bytes() for path in written}
    hub.model(str(source.hub)).commit(files, sha=source.revision)


def serve_alpaca(hub: HubServer, folder: Path) -> None:
    """Generated instructions."""
    world.write_alpaca(folder)
    rows = json.loads((folder / "alpaca_data.json").read_text("utf-8"))
    rows = [row | {"text": " ".join(row.values())} for row in rows]  # as the hub's rows have it
    files = {"data/train-00000-of-00001.parquet": parquet(rows)}
    hub.dataset(alpaca.HUB_NAME).commit(files, sha=alpaca.HUB_REVISION)


def serve_squad(hub: HubServer, folder: Path) -> None:
    """Generated passages, both versions."""
    world.write_squad(folder)
    for version, (name, revision) in SQUAD.items():
        files = {}
        for part, split in HUB_SPLITS.items():
            official = json.loads((folder / f"{part}-v{version}.json").read_text("utf-8"))
            files[f"plain_text/{split}-00000-of-00001.parquet"] = parquet(list(_rows(official)))
        hub.dataset(name).commit(files, sha=revision)


def _rows(official: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for article in official["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                found = asked["answers"]
                yield {
                    "id": asked["id"],
                    "title": article["title"],
                    "context": paragraph["context"],
                    "question": asked["question"],
                    "answers": {
                        "text": [each["text"] for each in found],
                        "answer_start": [each["answer_start"] for each in found],
                    },
                }
