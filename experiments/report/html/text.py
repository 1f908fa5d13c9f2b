"""The template engine and its filters."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def environment(templates: Path) -> "Environment":
    """Return the engine: it escapes everything, and unknown names are errors."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    engine = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {form.__name__: form for form in (one_line, code, data_address, slug)}
    return engine


def trusted(inline: str) -> "Markup":
    """Exempt a file of ours from escaping."""
    from markupsafe import Markup

    return Markup(inline)


def one_line(value: object) -> str:
    """Return a text without line breaks."""
    return " ".join(str(value).split())


def code(value: object) -> "Markup":
    """Return an escaped text, with `backticks` as code."""
    from markupsafe import Markup, escape

    parts = one_line(value).split("`")
    if len(parts) % 2 == 0:  # one is not closed
        return escape(one_line(value))
    pieces = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(pieces)


def data_address(png: bytes) -> str:
    """Return a PNG file as a data: URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def slug(value: object) -> str:
    """Return a text as a class name: "does not hold" as "does-not-hold"."""
    return "-".join(str(value).split())
