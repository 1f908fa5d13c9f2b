import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.metrics import load_metric
from zia_core.errors import ZiaError


def rouge_l(predictions: list[str], references: list[str]) -> float:
    return load_metric("rouge_l").compute(predictions=predictions, references=references)["rouge_l"]


def test_a_score_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # LCS "the cat sat" of 3 and 4 words: precision 1, recall 3/4.
    assert rouge_l(["the cat sat"], ["the cat sat down"]) == pytest.approx(6 / 7)
    # Order counts: of "b a" and "a b", one word.
    assert rouge_l(["blue apple"], ["apple blue"]) == pytest.approx(0.5)
    # Words are stemmed, case and punctuation do not count.
    assert rouge_l(["Running dogs!"], ["run dog"]) == 1.0


def test_the_score_of_many_is_their_mean_and_an_empty_one_scores_zero() -> None:
    assert rouge_l(["a word", "", "same"], ["other", "some text", "same"]) == pytest.approx(1 / 3)


def test_no_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        rouge_l([], [])


def test_an_unknown_metric_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(ZiaError, match=r"no metric named 'bleurt'; there are: .*rouge_l"):
        load_metric("bleurt")


def test_it_needs_no_network_and_no_home(tmp_path: Path) -> None:
    code = """
import socket
def refuse(*arguments, **named): raise AssertionError(f"network used: {arguments}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from experiments.metrics import load_metric
print(load_metric("rouge_l").compute(predictions=["a b"], references=["a b"]))
"""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    variables |= {"HOME": str(home), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True
    )
    assert done.stdout == "{'rouge_l': 1.0}\n", done.stderr
    assert not home.exists()
    assert list(temporary.iterdir()) == []
