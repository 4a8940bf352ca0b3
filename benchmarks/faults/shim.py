"""Faults at the k-th file operation of a process and its children: a small C library preloaded into them.

It needs a C compiler and a dynamically linked libc, not root. A kill this way is the death of a process, not of the machine:
what was written stays in the system's cache. Torn writes (half of the bytes) and a full or read-only disk are simulated.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("fault_shim.c")
KINDS = ("kill", "half", "full", "readonly")


def compiler() -> str | None:
    """A C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@dataclass(frozen=True)
class Shim:
    """The built library and the file of the shared counter."""

    library: Path
    counter: Path

    @classmethod
    def build(cls, folder: Path) -> Shim:
        """Compile into ``folder``.

        Raises:
            RuntimeError: there is no compiler, or it fails.
        """
        command = compiler()
        if command is None:
            raise RuntimeError("no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "fault_shim.so"
        built = subprocess.run(
            [command, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
            capture_output=True,
            text=True,
        )
        if built.returncode:
            raise RuntimeError(f"the shim does not compile: {built.stderr.splitlines()[:1]}")
        return cls(library, folder / "counter")

    def environment(self, under: Path, kind: str, at: int) -> dict[str, str]:
        """What a child needs to meet the fault; resets the counter.

        Args:
            under: the folder whose files count. kind: one of ``KINDS``. at: which operation, from 1; 0 only counts.
        """
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}")
        self.counter.write_bytes(struct.pack("q", 0))
        return {
            **os.environ, "LD_PRELOAD": str(self.library), "FAULT_UNDER": str(under.absolute()),
            "FAULT_COUNTER": str(self.counter), "FAULT_AT": str(at), "FAULT_KIND": kind,
        }  # fmt: skip

    def operations(self) -> int:
        """How many operations were counted since the last :meth:`environment`."""
        return int(struct.unpack("q", self.counter.read_bytes())[0])
