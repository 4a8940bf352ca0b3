"""The Linux kernel's sources and documentation, from Debian's source package: code, a second domain beside prose.

Generated register headers (long files that are nothing but ``#define``, a third of all bytes) and copies are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from algoprog.config import InputError
from algoprog.data.built import BuiltSource
from algoprog.data.packages import REMEDY, Package, download, record, run
from algoprog.data.progress import Report
from algoprog.data.source import Json

ENDINGS = (".c", ".h", ".S", ".rst", ".txt")
DEFINES = re.compile(r"^[ \t]*#[ \t]*define\b", re.MULTILINE)
LONG_HEADER = 100
REGISTER_SHARE = 0.8
RECIPE = 1


class LinuxSource(BuiltSource):
    """Options of ``kind: linux-source``: the Debian package."""

    package: str = "linux-source-6.1"

    @property
    def label(self) -> str:
        return self.package

    def identity(self) -> Json:
        return {"recipe": RECIPE, "package": self.package}

    def build(self, stage: Path, cache_dir: Path, report: Report) -> Json:
        """Write ``text.jsonl`` into ``stage``; return the package and the counts."""
        package = Package("deb", self.package, None)
        report(f"downloading {package}", 0, None)
        archive = download(package, cache_dir / "open-english" / "packages")
        counts = {"documents": 0, "registers": 0, "copies": 0, "not_utf8": 0}
        seen: set[bytes] = set()
        written = 0
        with (stage / "text.jsonl").open("w", encoding="utf-8") as out:
            for name, data in source_files(archive):
                outcome, text = judge(name, data, seen)
                counts[outcome] += 1
                if outcome == "documents":
                    written += out.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
                    report(f"extracting {package}", written, None)
        if not counts["documents"]:
            raise InputError("the package holds no source text", where=archive)
        return {"packages": [record(package, archive)], "files": counts}


def judge(name: str, data: bytes, seen: set[bytes]) -> tuple[str, str]:
    """What to do with a file, as the key it is counted under, and its text. Remembers the text in ``seen``."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "not_utf8", ""
    if name.endswith(".h") and is_register_header(text):
        return "registers", ""
    digest = hashlib.sha256(data).digest()
    if digest in seen or not text.strip():
        return "copies", ""
    seen.add(digest)
    return "documents", text


def is_register_header(text: str) -> bool:
    """Whether a header is a long list of ``#define`` lines, as tools write them from hardware descriptions."""
    lines = sum(1 for line in text.split("\n") if line.strip())
    return lines >= LONG_HEADER and len(DEFINES.findall(text)) >= REGISTER_SHARE * lines


def source_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the wanted files of the tar archive inside the package, in its order, without unpacking it."""
    run(["dpkg-deb", "--version"], "cannot read a Debian package", REMEDY["deb"])
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as package:
                for member in package:
                    if re.search(r"usr/src/[^/]*\.tar\.xz$", member.name) and member.isfile():
                        inner = package.extractfile(member)
                        assert inner is not None
                        yield from _members(inner)
        except (tarfile.TarError, EOFError) as error:
            raise InputError(
                f"the package is damaged: {error}", where=archive, remedy="delete it and try again"
            ) from None
        finally:
            process.kill()


def _members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r|xz") as sources:
        for member in sources:
            if member.isfile() and member.name.endswith(ENDINGS):
                content = sources.extractfile(member)
                assert content is not None
                yield member.name.split("/", 1)[-1], content.read()
