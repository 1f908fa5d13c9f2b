"""JSON that Python's reader accepts and ours refuses."""

import pytest

from zia_core.strict_json import MOST_DEPTH, MOST_DIGITS, loads


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested too deeply"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested too deeply"),
        ("9" * 5_000, "5000 digits"),
        ("9" * (MOST_DIGITS + 1), "41 digits"),
        ("[NaN]", "NaN is not a JSON number"),
        ("-Infinity", "-Infinity is not a JSON number"),
        ("1e999", "too large"),
        ("", "Expecting value"),
        (b"\xc3", "unexpected end of data"),
    ],
)
def test_it_is_refused_in_words(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loads(text)


def test_everything_else_is_as_ever() -> None:
    wide = "[" + ",".join(["[1.5,{}]"] * 1000) + "]"
    assert loads(wide) == [[1.5, {}]] * 1000
    assert loads("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    assert loads('{"a": [1, -2.5e3, null, true, "\\u00e9"], "b": 1234567890123456789}') == {
        "a": [1, -2500.0, None, True, "é"],
        "b": 1234567890123456789,
    }
