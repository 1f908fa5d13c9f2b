"""Adapter files with a JSON header that `save_adapter` never wrote."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zia_core.adapters import FILE, METHOD, unpacked
from zia_core.errors import ZiaError


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        '{"backbone": {}, "method": NaN}',
        '{"backbone": {"width": ' + "9" * 5000 + "}}",
        "[1]",
        "null",
        '{"backbone": [1]}',
        '{"backbone": {}, "config": [1]}',
        f'{{"backbone": {{}}, "method": "{METHOD}"}}',
        f'{{"backbone": {{}}, "method": "{METHOD}", "config": 1}}',
        f'{{"backbone": {{}}, "method": "{METHOD}", "config": {{"prompt_length": "10"}}}}',
        f'{{"backbone": {{}}, "method": "{METHOD}", "config": {{"softmax": [1]}}}}',
        '{"backbone": {}, "visual": {}}',
        '{"backbone": {}, "visual": {"encoder_width": 8, "depths": 1}}',
        '{"backbone": {}, "visual": {"encoder_width": 8, "heads": "a"}}',
    ],
)
def test_a_header_of_another_form_is_a_sentence_with_the_file(tmp_path: Path, header: str) -> None:
    path = tmp_path / FILE
    save_file({"prompt": torch.zeros(2)}, path, {"zia": header})
    with pytest.raises(ZiaError) as error:
        unpacked(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500
