"""Caption scores from COCO's own files: results and annotations.

Results: [{"image_id": 42, "caption": "a cat on a mat"}], one caption per image.
Annotations: {"images": [{"id": 42}], "annotations": [{"image_id": 42, "caption": "A cat sits on a
mat."}]}; other fields are ignored.
"""

from pathlib import Path
from typing import Any

from experiments.data.files import parse_json, read_text, text_field
from experiments.metrics.coco.ptb import tokenize
from experiments.metrics.coco.scorer import degenerate, score
from zia_core.errors import ZiaError

ImageId = int | str  # numbers in COCO, but possibly names in converted data sets


def score_files(results: Path, annotations: Path) -> tuple[dict[str, float], list[str]]:
    """Return the scores by their official names, and remarks on their limits.

    As in the official scorer, the images of the results are scored. ZiaError as from the two
    readers, and for a caption whose image has no reference in the annotations.
    """
    captions = read_results(results)
    references = read_annotations(annotations)
    for place, image in enumerate(captions):
        where = f"{results}, record {place}"
        if image not in references:
            raise ZiaError(
                f"{where}: the image {image!r} is not in {annotations}: "
                "leave its caption out, or give the annotations of these images"
            )
        if not references[image]:
            raise ZiaError(
                f"{where}: the image {image!r} has no reference caption in {annotations}: "
                "leave its caption out, or give annotations that have one"
            )
    candidates = [tokenize(caption) for caption in captions.values()]
    right = [[tokenize(text) for text in references[image]] for image in captions]
    scores = score(candidates, right)
    remarks = degenerate(candidates, right)
    if len(captions) < len(references):
        remarks.append(
            f"{len(captions):,} of {len(references):,} images are scored: "
            f"{results} has no caption for the others."
        )
    return scores, remarks


def read_results(path: Path) -> dict[ImageId, str]:
    """Return captions by image, in the file's order.

    ZiaError, naming the record, for an invalid file or a repeated image.
    """
    records = parse_json(read_text(path), str(path))
    if not isinstance(records, list) or not records:
        raise ZiaError(
            f"{path} must be a list [{{'image_id': ..., 'caption': ...}}] with at least one record"
        )
    captions: dict[ImageId, str] = {}
    for place, record in enumerate(records):
        where = f"{path}, record {place}"
        caption = text_field(record, "caption", where)
        image = image_id(record, "image_id", where)
        if image in captions:
            raise ZiaError(f"{where}: a second caption for image {image!r}: give one an image")
        captions[image] = caption
    return captions


def read_annotations(path: Path) -> dict[ImageId, list[str]]:
    """Return reference captions by image, in the file's order; [] if there is none.

    ZiaError, naming the record, for an invalid file or a caption of an unlisted image.
    """
    root = parse_json(read_text(path), str(path))
    if not isinstance(root, dict) or not all(
        isinstance(root.get(name), list) for name in ("images", "annotations")
    ):
        raise ZiaError(
            f"{path} must be an object with the lists 'images' and 'annotations', "
            "as COCO's caption files are"
        )
    references: dict[ImageId, list[str]] = {}
    for place, listed in enumerate(root["images"]):
        references[image_id(listed, "id", f"{path}, images[{place}]")] = []
    for place, annotation in enumerate(root["annotations"]):
        where = f"{path}, annotations[{place}]"
        caption = text_field(annotation, "caption", where)
        image = image_id(annotation, "image_id", where)
        if image not in references:
            raise ZiaError(
                f"{where}: its image {image!r} is not under 'images': add it or drop the caption"
            )
        references[image].append(caption)
    return references


def image_id(record: Any, field: str, where: str) -> ImageId:
    """Return `record[field]`, a number or a name; a ZiaError starts with `where`."""
    value = record.get(field) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ZiaError(f"{where} must be a JSON object with a field {field!r}, the image's id")
    return value
