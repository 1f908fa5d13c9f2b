import gzip
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.metrics import load_metric
from experiments.metrics.coco import scorer
from zia_core.errors import ZiaError

NAMES = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]

IMAGES = {
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "annotations": [
        {"image_id": 1, "id": 10, "caption": "A cat sits on a mat."},
        {"image_id": 1, "id": 11, "caption": "The cat is on the mat"},
        {"image_id": 2, "id": 12, "caption": "Two dogs run in the park."},
    ],
}
CAPTIONS = [
    {"image_id": 2, "caption": "Two dogs run in the park"},
    {"image_id": 1, "caption": "a cat sits on a mat"},
]


def test_bleu_clips_by_the_reference_that_has_most_and_counts_over_the_corpus() -> None:
    # 1-grams: "the" three times, twice in one reference; 2-grams: "the the" never.
    scores = scorer.bleu(["the the the"], [["the cat the", "the"]])
    assert scores[0] == pytest.approx(2 / 3)
    assert scores[1] < 1e-7
    # Counted together, not averaged: 1 of 1 and 1 of 3 words are 2 of 4.
    assert scorer.bleu(["a", "a b c"], [["a"], ["a x x"]])[0] == pytest.approx(2 / 4)


def test_bleu_takes_the_nearest_reference_length_and_of_two_the_shorter() -> None:
    # 3 words; 2 and 4 are equally close: 2, so no brevity penalty.
    assert scorer.bleu(["a b c"], [["a b", "a b c d"]])[0] == pytest.approx(1)
    assert scorer.bleu(["a b c"], [["a b c d e"]])[0] == pytest.approx(math.exp(1 - 5 / 3))


def test_rouge_l_takes_the_best_precision_and_the_best_recall() -> None:
    # Precision 2/2 by the first, recall 1/1 by the second: together 1.
    assert scorer.rouge_l("a b", ["a x b x", "b"]) == pytest.approx(1)
    # LCS "a c": precision 2/3, recall 2/4, and beta 1.2.
    expected = (1 + 1.44) * (2 / 3) * (2 / 4) / (2 / 4 + 1.44 * 2 / 3)
    assert scorer.rouge_l("a b c", ["x a y c"]) == pytest.approx(expected)
    assert scorer.rouge_l("", ["a"]) == scorer.rouge_l("b", ["a"]) == 0


def test_cider_d_weighs_by_rarity_and_punishes_another_length() -> None:
    references = [["a b c d e"], ["v w x y z"]]
    assert scorer.cider_d(["a b c d e", "q"], references) == pytest.approx([10, 0])
    # Doubled, 6 - n of the n-grams occur twice, clipped to once, and n - 1 new ones once.
    doubled = scorer.cider_d(["a b c d e a b c d e", "q"], references)[0]
    cosines = [
        5 / math.sqrt(20 * 5),
        4 / math.sqrt(17 * 4),
        3 / math.sqrt(14 * 3),
        2 / math.sqrt(22),
    ]
    assert doubled == pytest.approx(10 * sum(cosines) / 4 * math.exp(-(5**2) / (2 * 6**2)))
    # A word that every image has in a reference weighs nothing.
    common = scorer.cider_d(["a", "a"], [["a"], ["a"]])
    assert common == [0, 0]
    # The mean over references, not the best one.
    halved = scorer.cider_d(["a b c d e", "q"], [["a b c d e", "k l m n o"], ["v w x y z"]])[0]
    assert halved == pytest.approx(5)


def test_captions_and_images_must_go_together() -> None:
    for candidates, references in ((["a"], []), ([], []), (["a"], [[]])):
        with pytest.raises(ZiaError, match="each image needs one caption"):
            scorer.score(candidates, references)


def test_the_evaluate_module_tokenises_and_has_the_official_names() -> None:
    texts = [("A cat, on a mat!", ["a cat on a mat"]), ("it's red", ["it 's red", "blue"])]
    scores = load_metric("coco").compute(
        predictions=[caption for caption, _ in texts], references=[list(r) for _, r in texts]
    )
    assert list(scores) == NAMES
    assert scores["Bleu_1"] == pytest.approx(1)
    assert scores["ROUGE_L"] == pytest.approx(1)


def test_the_evaluate_module_takes_official_rows_in_any_order() -> None:
    metric, texts = load_metric("coco"), {1: "A cat sits on a mat.", 2: "two dogs in the park"}
    rows = [{"image_id": image, "caption": text, "score": 0.5} for image, text in texts.items()]
    right = [
        [each | {"license": None} for each in IMAGES["annotations"] if each["image_id"] == image]
        for image in texts
    ]
    by_place = metric.compute(
        predictions=list(texts.values()),
        references=[[each["caption"] for each in listed] for listed in right],
    )
    assert by_place["CIDEr"] > 0
    assert metric.compute(predictions=rows, references=right) == by_place
    swapped = metric.compute(predictions=rows, references=right[::-1])
    assert swapped == pytest.approx(by_place)
    for given, fault in (
        ([rows[0], rows[0]], "prediction 1: the image 1 comes twice"),
        ([rows[0], rows[1] | {"image_id": 9}], "prediction 1: the image 9 has no reference"),
        ([rows[0], "a"], "only some captions are rows"),
        ([rows[0], {"caption": "a"}], "prediction 1 must be a JSON object with .* 'image_id'"),
        ([rows[0], {"image_id": 2}], "prediction 1 has no field 'caption'"),
        ([rows[0]], "1 predictions for 2 references"),
    ):
        with pytest.raises(ZiaError, match=fault):
            load_metric("coco").compute(predictions=given, references=right)


def test_scores_that_a_small_set_fixes_are_remarked_on(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    annotations = write("a.json", IMAGES)
    for captions, remarks in (
        (CAPTIONS, []),
        (CAPTIONS[:1], ["CIDEr is 0 whatever .* the references of one image"]),
        (
            [{"image_id": 1, "caption": "a cat."}, {"image_id": 2, "caption": "two dogs run"}],
            ["No caption has more than 3 words.* above Bleu_3 its values mean nothing"],
        ),
    ):
        results = write("r.json", captions)
        code, _, err = zia_score("coco", "--results", results, "--annotations", annotations)
        said = [line for line in err.splitlines() if "images are scored" not in line]
        assert (code, len(said)) == (0, len(remarks)), err
        for line, remark in zip(said, remarks, strict=True):
            assert re.search(remark, line)
    same = scorer.degenerate(["a b c d", "x y z u"], [["a b c d"], ["a b c d"]])
    assert re.search("CIDEr is 0 .* images with the same words", *same)
    with pytest.warns(UserWarning, match="CIDEr is 0 whatever"):
        load_metric("coco").compute(predictions=["a b c d"], references=[["a b c d"]])


def test_files_are_scored_by_image_id(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    files = "--results", write("r.json.gz", CAPTIONS), "--annotations", write("a.json", IMAGES)
    code, out, err = zia_score("coco", *files, "--json")
    scores = json.loads(out)
    assert (code, list(scores)) == (0, NAMES)
    assert scores["Bleu_4"] == pytest.approx(1)
    assert err.startswith("2 of 3 images are scored: ")
    code, out, err = zia_score("coco", *files)
    assert [line.split()[0] for line in out.splitlines()] == NAMES


def change(records: Any, place: int, **fields: Any) -> Any:
    return [record | fields if i == place else record for i, record in enumerate(records)]


@pytest.mark.parametrize(
    ("captions", "images", "sentence"),
    [
        (change(CAPTIONS, 1, image_id=9), {}, "r.json, record 1: the image 9 is not in"),
        (change(CAPTIONS, 1, image_id=3), {}, "record 1: the image 3 has no reference caption"),
        (change(CAPTIONS, 1, image_id=2), {}, "record 1: a second caption for image 2"),
        (change(CAPTIONS, 0, caption=None), {}, "record 0: 'caption' must be a text, not null"),
        ([{"caption": "a"}], {}, "record 0 must be a JSON object with a field 'image_id'"),
        ([], {}, "r.json must be a list"),
        ({"1": "a"}, {}, "r.json must be a list"),
        (CAPTIONS, {"images": None}, "a.json must be an object with the lists 'images' and"),
        (CAPTIONS, {"images": [{"id": 2}]}, r"a.json, annotations\[0\]: its image 1 is not under"),
        (CAPTIONS, {"images": [{}]}, r"a.json, images\[0\] must be .* 'id'"),
        (
            CAPTIONS,
            {"annotations": change(IMAGES["annotations"], 2, caption=5)},
            r"annotations\[2\]: 'caption' must be a text, not a number",
        ),
    ],
)
def test_what_is_wrong_is_named(
    zia_score: Callable[..., Any],
    write: Callable[[str, Any], Path],
    captions: Any,
    images: dict[str, Any],
    sentence: str,
) -> None:
    files = write("r.json", captions), write("a.json", IMAGES | images)
    code, out, err = zia_score("coco", "--results", files[0], "--annotations", files[1])
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search(sentence, err), err


def test_a_broken_file_is_named(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    annotations = write("a.json", IMAGES)
    for name, content in (("cut.json", b'[{"image_id"'), ("no.json.gz", b"")):
        path = write(name, content)
        code, _, err = zia_score("coco", "--results", path, "--annotations", annotations)
        assert (code, name in err, err.count("\n")) == (1, True, 1)


@pytest.fixture
def expected(shared_dir: Path) -> dict[str, Any]:
    return json.loads((shared_dir / "data/coco/expected_fakecap126.json").read_text())


def test_scores_on_given_tokens_are_the_official_ones(
    shared_dir: Path, expected: dict[str, Any]
) -> None:
    path = shared_dir / "data/coco/ptb_tokenized_fakecap126.json.gz"
    tokens = json.loads(gzip.decompress(path.read_bytes()))
    candidates = [image["hyp"] for image in tokens.values()]
    references = [image["refs"] for image in tokens.values()]
    scores = scorer.score(candidates, references)
    assert scores == pytest.approx({name: expected["scores"][name] for name in NAMES}, abs=1e-12)
    rouge = map(scorer.rouge_l, candidates, references)
    for name, values in (("ROUGE_L", rouge), ("CIDEr", scorer.cider_d(candidates, references))):
        of_images = dict(zip(tokens, values, strict=True))
        for image, value in expected["per_image_first20"][name].items():
            assert of_images[image] == pytest.approx(value, abs=1e-12)


def test_scores_on_our_tokens_are_the_official_ones(
    shared_dir: Path, expected: dict[str, Any], zia_score: Callable[..., Any]
) -> None:
    folder = shared_dir / "data/coco"
    code, out, _ = zia_score(
        "coco",
        "--results",
        folder / "fakecap_val2014_in_val2017_results.json.gz",
        "--annotations",
        folder / "captions_val2017.json.gz",
        "--json",
    )
    # A different tokenizer may cost 1e-3; this one costs nothing.
    official = {name: expected["scores"][name] for name in NAMES}
    assert (code, json.loads(out)) == (0, pytest.approx(official, abs=1e-12))
