"""The report as one HTML text, made from `assets/report.html` with its style and script put inside.

Everything that is filled in is escaped, names of cases and commands above all; only our own
drawings are let through as they are.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ASSETS_DIR = Path(__file__).parent.parent / "assets"
TEMPLATE_NAME = "report.html"


def render_page(context: Mapping[str, Any]) -> str:
    """Return the report's page.

    Args:
        context: What the template's head lists; plain values, and drawings as SVG text.

    Raises:
        jinja2.UndefinedError: If something that the template shows is missing.
    """
    # late: only a report needs it
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(ASSETS_DIR, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = _tight
    own = {name: Markup(_asset(name)) for name in ("report.css", "report.js")}
    return environment.get_template(TEMPLATE_NAME).render(
        style=own["report.css"], script=own["report.js"], safe_svg=Markup, **context
    )


def _tight(text: str) -> str:
    """Return a text in which no line ends within an interval's brackets."""
    return re.sub(r"(\[[^\s\]]+,) ", "\\1\N{NO-BREAK SPACE}", text)


def _asset(name: str) -> str:
    return (ASSETS_DIR / name).read_text(encoding="utf-8")
