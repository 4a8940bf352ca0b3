"""Audit of what is installed: known vulnerabilities where their data can be reached, else that it is what was pinned.

    python .ci/audit.py [CONSTRAINTS]

1. If pip-audit is installed, it is asked. Vulnerabilities end this with 1; not reaching its data is said and is no failure.
2. Every package pinned with == in the constraints and installed has that version, and every installed file of every package has
   the sha256 of its package's record. This finds files changed after installation; it knows nothing of vulnerabilities.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UNREACHABLE = (
    "ConnectionError",
    "ServiceError",
    "Connection",
    "timed out",
    "Max retries",
    "404",
    "403",
    "Name or service",
)


def vulnerabilities() -> bool:
    """Ask pip-audit; False if it found any."""
    if importlib.util.find_spec("pip_audit") is None:
        print("vulnerabilities: not checked (pip-audit is not installed: pip install pip-audit)")
        return True
    command = [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner", "off", "--skip-editable"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print("vulnerabilities: not checked (pip-audit did not reach its data within 300 s)")
        return True
    if done.returncode == 0:
        print(f"vulnerabilities: {(done.stderr.strip().splitlines() or ['none known'])[-1]}")
        return True
    said = done.stdout.strip() or done.stderr.strip()
    if "Found" not in done.stderr and any(word in done.stderr for word in UNREACHABLE):
        print(f"vulnerabilities: not checked (pip-audit cannot reach its data: {said.splitlines()[-1][:100]})")
        return True
    print(f"vulnerabilities: {said}")
    return False


def other_versions(constraints: Path) -> Iterator[str]:
    """Packages that are installed at another version than the pinned one; a local suffix such as +cpu does not count."""
    for line in constraints.read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line)
        if match is None:
            continue
        try:
            found = importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.split("+")[0] != match[2].split("+")[0]:
            yield f"{match[1]} {found} is installed, {match[2]} is pinned"


def changed_files() -> tuple[int, list[str]]:
    """How many files were hashed, and those that are not what a record says; two packages may have brought one file."""
    recorded: dict[Path, set[str]] = {}
    for package in importlib.metadata.distributions():
        for file in package.files or ():
            if file.hash is not None and file.hash.mode == "sha256":
                recorded.setdefault(Path(str(file.locate())).resolve(), set()).add(file.hash.value)
    changed = [
        f"{path}: {'not as recorded' if path.is_file() else 'missing'}"
        for path, digests in sorted(recorded.items())
        if not path.is_file() or _digest(path) not in digests
    ]
    return len(recorded), changed


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def main() -> int:
    constraints = Path(sys.argv[1] if len(sys.argv) > 1 else "constraints.txt")
    clean = vulnerabilities()
    versions = list(other_versions(constraints))
    checked, changed = changed_files()
    print(
        f"versions: {len(versions)} differ from {constraints}; files: {len(changed)} of {checked} differ from their records"
    )
    for problem in (*versions, *changed[:20]):
        print(f"  {problem}")
    return 0 if clean and not versions and not changed else 1


if __name__ == "__main__":
    sys.exit(main())
