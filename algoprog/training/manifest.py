"""The list of a folder's files with their hashes, and a hash of the list: one changed bit anywhere is found.

``MANIFEST.json`` has one spelling only (:func:`_spell`). Its last entry is the sha256 of the spelling without that entry, so a
changed bit in a name, a size, a hash or a comma changes what it says or how it is spelt, and either is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "MANIFEST.json"
FORMAT = 2


class Damaged(ValueError):
    """A checkpoint is not what was written; the text names the file, what was expected and what was found."""


def manifest_bytes(files: Mapping[str, tuple[int, str]]) -> bytes:
    """The manifest of ``files``: name to (bytes, sha256)."""
    entries = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in files.items()}
    content = {"format": FORMAT, "files": entries}
    return _spell({**content, "sha256": hashlib.sha256(_spell(content)).hexdigest()})


def read_verified(folder: Path) -> dict[str, bytes]:
    """The files of ``folder``. Each is read once, and the bytes that were hashed are the bytes that are returned.

    Raises:
        Damaged: a file is missing, too many, of another size or another hash, or the manifest does not verify.
        OSError: the folder or a file cannot be read.
    """
    entries = _read_manifest(folder / NAME)
    found = {path.name for path in folder.iterdir()} - {NAME}
    if found != set(entries):
        missing, extra = sorted(set(entries) - found), sorted(found - set(entries))
        raise Damaged(f"files missing: {missing or 'none'}, files too many: {extra or 'none'}")
    return {name: _read_file(folder / name, entry) for name, entry in entries.items()}


def _read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise Damaged(f"{path.name}: {size} bytes, expected {entry['bytes']}")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry["sha256"]:
        raise Damaged(f"{path.name}: sha256 {digest[:12]}..., expected {entry['sha256'][:12]}...")
    return data


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        raise Damaged(f"{NAME}: missing")
    data = path.read_bytes()
    try:
        content = json.loads(data)
        digest = content.pop("sha256")
        right = hashlib.sha256(_spell(content)).hexdigest() == digest
        whole = right and _spell({**content, "sha256": digest}) == data
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise Damaged(f"{NAME}: its own sha256 does not match")
    if content["format"] != FORMAT:
        raise Damaged(f"{NAME}: format {content['format']}, expected {FORMAT}")
    entries: dict[str, dict[str, Any]] = content["files"]
    if any("/" in name or name in ("", ".", "..") for name in entries):
        raise Damaged(f"{NAME}: names a file outside its folder")
    return entries


def _spell(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
