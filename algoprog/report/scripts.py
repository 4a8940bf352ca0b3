"""The scripts inside the page, and the policy that lets these run and nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from algoprog.config import InputError

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Scripts:
    """``inline``: texts to run, in order; ``packed``: plotly's own, gzip in base64, unpacked by the page and run once;
    ``policy``: what a content security policy must say so that these run and nothing else does or is requested.
    """

    inline: tuple[str, ...]
    packed: str
    policy: str


def page_scripts(interactive: bool) -> Scripts:
    """Downloads and reloads always; plotly and the interactive charts where there are any.

    Raises:
        InputError: a script could end the element that it is put into.
    """
    inline = [(TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.js", "explorer.js")[: 1 + interactive]]
    if any("</script" in text.lower() or "<!--" in text for text in inline):
        raise InputError("a script cannot be put into a page", expected="no </script and no <!--")
    library = _plotly() if interactive else ""
    packed = base64.b64encode(gzip.compress(library.encode(), mtime=0)).decode() if interactive else ""
    return Scripts(tuple(inline), packed, _policy([*inline, *([library] if interactive else [])]))


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # here, because importing it takes a while

    return str(get_plotlyjs())


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}"
