"""The stored lengths of Alpaca's records: their sums, and refusal of a damaged file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import lengths
from experiments.alpaca_llama.data import Record
from experiments.language.alpaca_prompt import prompt_text
from zia_core.errors import ZiaError


def test_the_distribution_is_the_one_that_the_readme_states(repository: Path) -> None:
    prompt, response = lengths.stored()
    cut = (prompt + response).clamp(max=512)
    assert len(prompt) == len(response) == 52_002
    assert int((prompt + response).sum()) == 6_613_574
    assert int(cut.sum()) == 6_602_131
    assert cut.float().mean().item() == pytest.approx(126.96, abs=0.005)
    readme = (repository / "benchmarks" / "README.md").read_text()
    assert "52,002 records" in readme
    assert "6,602,131" in readme


def test_what_is_trained_on() -> None:
    """One prompt fills all 512 tokens: its record has no labels and is left out."""
    of = lengths.load()
    assert len(of.tokens) == len(of.labels) == 52_001
    assert sum(of.tokens) == 6_602_131 - 512
    assert 512 * len(of.tokens) / sum(of.tokens) == pytest.approx(4.03, abs=0.005)
    assert max(of.tokens) == 512
    assert all(1 <= labels < tokens for tokens, labels in zip(of.tokens, of.labels, strict=True))


def test_cut_at_512(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: short, exactly full, with a truncated response, and two without room for one."""
    write(tmp_path, monkeypatch, [40, 500, 511, 512, 600], [7, 12, 300, 1, 5])
    assert lengths.load() == lengths.Lengths(tokens=[47, 512, 512], labels=[7, 12, 1])


INT16 = torch.int16


@pytest.mark.parametrize(
    ("prompt", "response", "total", "says"),
    [
        ([40, 50], [7], None, "not two lists"),
        ([], [], None, "not two lists"),
        ([[40]], [[7]], None, "not two lists"),
        ([40, 0], [7, 7], None, "below 1"),
        ([40, 50], [7, -1], None, "below 1"),
        ([40, 50], [7, 8], "106", "sum to 105, not to 106"),
        ([40, 50], [7, 8], "many", "invalid literal"),
    ],
)
def test_wrong_counts_are_refused(
    prompt: list[int],
    response: list[int],
    total: str | None,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path, monkeypatch, prompt, response, total)
    with pytest.raises(ZiaError, match=says):
        lengths.load()


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "FILE", tmp_path / "lengths.safetensors")
    with pytest.raises(ZiaError, match=r"lengths\.safetensors cannot be read .*fetch the file"):
        lengths.load()
    lengths.FILE.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ZiaError, match="cannot be read"):
        lengths.load()
    save_file({"prompt": torch.ones(2, dtype=INT16)}, lengths.FILE, {"tokens": "2"})
    with pytest.raises(ZiaError, match="cannot be read"):
        lengths.load()
    floats = torch.ones(2)
    save_file({"prompt": floats, "response": floats.clone()}, lengths.FILE, {"tokens": "4"})
    with pytest.raises(ZiaError, match="not two lists"):
        lengths.load()


def test_records_are_counted_as_for_training() -> None:
    """With a start token before the prompt and an end token after the response, as in LLaMA."""
    records = [Record(0, "Add.", "1 2", "3"), Record(1, "Sing.", "", "La la la")]
    prompts, responses = lengths.count(records, Words())
    assert prompts == [1 + len(prompt_text(record).split()) for record in records]
    assert responses == [1 + 1, 3 + 1]


class Words:
    """A tokenizer whose tokens are words."""

    is_fast = True
    bos_token_id, eos_token_id = 1, 2

    def __call__(self, texts: list[str], **options: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[3] * len(text.split()) for text in texts]}


def write(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompt: list[int],
    response: list[int],
    total: str | None = None,
) -> None:
    """Store other lengths in place of Alpaca's."""
    monkeypatch.setattr(lengths, "FILE", folder / "lengths.safetensors")
    counts = {
        "prompt": torch.tensor(prompt, dtype=INT16),
        "response": torch.tensor(response, dtype=INT16),
    }
    sums = str(sum(int(of.sum()) for of in counts.values()))
    save_file(counts, lengths.FILE, {"tokens": sums if total is None else total})
