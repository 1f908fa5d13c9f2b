import json
from pathlib import Path

import pytest

from experiments.pretrain import compare
from zia_core.errors import ZiaError


def card(path: Path, sha256: str, **quality: float) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"sha256": sha256, "quality": quality}))


def test_a_rebuilt_backbone_is_the_same_file_or_compared_by_its_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = tmp_path / "weights" / "pocket-llama"
    monkeypatch.setattr(compare, "MADE", {released: "llama/*/card.json"})
    card(released / "card.json", "ab", held_out=0.9876)
    card(tmp_path / "runs/llama/one/card.json", "ab", held_out=0.9876)
    card(tmp_path / "runs/llama/two/card.json", "cd", held_out=0.95, new=0.5)
    assert list(compare.compared(tmp_path / "runs")) == [
        "pocket-llama: the released file, to the byte",
        "pocket-llama: another file; held_out 0.950 (released 0.988), new 0.500 (released -)",
    ]


def test_no_rebuilt_backbone_is_said(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="holds no run that makes a pocket backbone"):
        list(compare.compared(tmp_path))


def test_the_runs_are_where_the_experiments_leave_them() -> None:
    from experiments.harness import registry

    for pattern in compare.MADE.values():
        name, slug = pattern.split("/")[:2]
        last = registry.get(name).plan("pretrain", "cpu")[-1]
        assert Path(last.folder_name).match(slug)
