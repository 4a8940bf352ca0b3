"""Prepared tokens as files that travel: compressed pieces of at most 64 MiB with a manifest of checksums.

    pack.json                       the store's name and fingerprint, every file and its pieces, sha256 of all and of itself
    train.bin.0000-1f3a....xz       a piece: up to 63 MiB of one file of the store, compressed by itself (LZMA)

A piece is named after its content before compression, so packing again keeps the pieces that are right and makes the rest.
Unpacking checks every piece before it writes anything and names all that are missing or damaged, so that only those have to
be sent again; the store appears whole or not at all, and with the fingerprint that was packed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoprog.config import InputError
from algoprog.data.cache import build_once, default_cache_dir, disk_errors, sha256_of, sync
from algoprog.data.progress import Report, reporting
from algoprog.data.store import TokenStore, read_store

FORMAT = 1
MANIFEST = "pack.json"
LARGEST_PIECE_BYTES = 64 << 20
PIECE_BYTES = 63 << 20  # before compression: what cannot be compressed grows by less than a thousandth

# Ids are little-endian pairs of bytes: position bits of one byte and literals by parity save a few per cent of size.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}]

# The only names that a manifest may contain: no separators, no leading dot, so nothing outside its folder can be meant.
STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._]{0,60}")
PIECE_NAME = re.compile(r"[a-z0-9][a-z0-9._]{0,60}\.\d{4}-[0-9a-f]{16}\.xz")
SHA256 = re.compile(r"[0-9a-f]{64}")

Json = dict[str, Any]


def pack(store: TokenStore, out: Path, progress: bool | Report = True, piece_bytes: int = PIECE_BYTES) -> Json:
    """Write the pieces and the manifest of ``store`` into ``out``; pieces that are there and right are kept.

    ``progress`` as in :func:`algoprog.data.tokens.prepare`; ``piece_bytes`` is the size of a piece before compression.
    Returns ``{"folder", "fingerprint", "pieces", "kept", "bytes", "packed_bytes"}``, sizes in bytes.

    Raises:
        InputError: ``out`` holds another pack, or the disk is full or cannot be written.
    """
    paths = [store.path / name for name in (*sorted(store.meta["files"]), "meta.json")]
    total, files, kept, done = sum(path.stat().st_size for path in paths), [], 0, 0
    with disk_errors(out), reporting(progress) as report:
        out.mkdir(parents=True, exist_ok=True)
        _refuse_other_pack(out, store.fingerprint)
        for path in paths:
            pieces = []
            for number, raw in enumerate(_slices(path, piece_bytes)):
                piece, was_there = _write_piece(out, path.name, number, raw)
                pieces.append(piece)
                kept, done = kept + was_there, done + len(raw)
                report("packing", done, total)
            files.append({"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path), "pieces": pieces})
        content = {"format": FORMAT, "store": store.path.name, "fingerprint": store.fingerprint, "files": files}
        _write_whole(out / MANIFEST, json.dumps(content | {"sha256": _digest(content)}, indent=1).encode())
    written = [piece for file in files for piece in file["pieces"]]
    return {
        "folder": str(out),
        "fingerprint": store.fingerprint,
        "pieces": len(written),
        "kept": kept,
        "bytes": total,
        "packed_bytes": sum(piece["bytes"] for piece in written),
    }


def unpack(folder: Path, final: Path | None = None, cache_dir: Path | None = None) -> TokenStore:
    """Make the store that was packed into ``folder`` and open it; a store that is there already is checked and kept.

    ``final`` is the store's folder; by default its old name among the cache's tokens, where a config that names the same
    corpus, tokenizer and seed finds it.

    Raises:
        InputError: no manifest, a manifest with names or sums that are not allowed, pieces that are missing or damaged (all
            are named), another store at ``final``, or a disk that is full or cannot be written.
    """
    manifest = _read_manifest(folder)
    final = final or (cache_dir or default_cache_dir()) / "tokens" / manifest["store"]
    if not final.exists():
        _check_pieces(folder, manifest)
        build_once(final, lambda stage: _write_store(folder, manifest, stage))
    store = read_store(final)
    if store.fingerprint != manifest["fingerprint"]:
        raise InputError(
            "another store is there", where=final, got=f"fingerprint {store.fingerprint[:16]}",
            expected=manifest["fingerprint"][:16], remedy="choose another --out",
        )  # fmt: skip
    return store


def _slices(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while raw := file.read(size):
            yield raw


def _refuse_other_pack(out: Path, fingerprint: str) -> None:
    if (out / MANIFEST).exists() and (there := _read_manifest(out)["fingerprint"]) != fingerprint:
        raise InputError(
            "this folder holds another pack", where=out, got=f"fingerprint {there[:16]}", expected=fingerprint[:16],
            remedy="choose another --out",
        )  # fmt: skip


def _write_piece(out: Path, name: str, number: int, raw: bytes) -> tuple[Json, bool]:
    """The piece's entry in the manifest, and whether it was there already."""
    sha256 = hashlib.sha256(raw).hexdigest()
    path = out / f"{name}.{number:04d}-{sha256[:16]}.xz"
    kept = path.is_file() and _holds(path, raw)
    if not kept:
        _write_whole(path, lzma.compress(raw, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=FILTERS))
    size = path.stat().st_size
    assert size <= LARGEST_PIECE_BYTES, f"{path}: {size} bytes"
    return {"name": path.name, "bytes": size, "sha256": sha256_of(path), "raw_bytes": len(raw)}, kept


def _holds(path: Path, raw: bytes) -> bool:
    try:
        return _decompress(path.read_bytes(), len(raw)) == raw
    except ValueError:
        return False


def _decompress(packed: bytes, expected_bytes: int) -> bytes:
    """The content of one piece. Never makes more than one byte above what is expected, whatever the piece says of itself.

    Raises:
        ValueError: it is not LZMA, is cut off, or holds more or less than ``expected_bytes``.
    """
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        raw = decoder.decompress(packed, max_length=expected_bytes + 1)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None
    if len(raw) != expected_bytes or not decoder.eof:
        raise ValueError(f"cut off, or not the {expected_bytes} bytes that were packed")
    return raw


def _read_manifest(folder: Path) -> Json:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError("no pack here", where=folder, expected=MANIFEST, remedy="run: algoprog data pack")
    try:
        manifest: Json = json.loads(path.read_text(encoding="utf-8"))
        expected = manifest.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _bad_manifest(path, f"unreadable ({type(error).__name__})") from None
    if _digest(manifest) != expected:
        raise _bad_manifest(path, "its checksum does not match")
    if manifest.get("format") != FORMAT:
        raise InputError("packed by another version", where=path, got=manifest.get("format"), expected=FORMAT)
    try:
        _check_names(path, manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad_manifest(path, f"incomplete ({error})") from None
    return manifest


def _check_names(path: Path, manifest: Json) -> None:
    """Whoever can write a manifest can also compute its checksum: names and sizes are held to what :func:`pack` writes."""
    files = manifest["files"]
    given = [(STORE_NAME, manifest["store"]), *((FILE_NAME, file["name"]) for file in files)]
    given += [(PIECE_NAME, piece["name"]) for file in files for piece in file["pieces"]]
    given += [(SHA256, part["sha256"]) for file in files for part in (file, *file["pieces"])]
    for pattern, name in given:
        if not isinstance(name, str) or pattern.fullmatch(name) is None:
            raise _bad_manifest(path, f"the name {name!r} is not allowed")
    for file in files:
        sizes = [piece["raw_bytes"] for piece in file["pieces"]]
        if sum(sizes) != file["bytes"] or any(not 0 < size <= LARGEST_PIECE_BYTES for size in sizes):
            raise _bad_manifest(path, f"the sizes of {file['name']} do not add up")


def _bad_manifest(path: Path, why: str) -> InputError:
    return InputError("the manifest is damaged or was tampered with", where=path, got=why, remedy="pack again")


def _check_pieces(folder: Path, manifest: Json) -> None:
    bad = []
    for piece in (piece for file in manifest["files"] for piece in file["pieces"]):
        path = folder / piece["name"]
        if path.is_symlink() or not path.is_file():
            bad.append(f"{piece['name']} (missing)")
        elif path.stat().st_size != piece["bytes"]:
            bad.append(f"{piece['name']} ({path.stat().st_size} of {piece['bytes']} bytes)")
        elif sha256_of(path) != piece["sha256"]:
            bad.append(f"{piece['name']} (damaged)")
    if bad:
        raise InputError(
            f"{len(bad)} pieces are not as packed", where=folder, got=", ".join(bad), remedy="send these again"
        )


def _write_store(folder: Path, manifest: Json, stage: Path) -> None:
    for file in manifest["files"]:
        with (stage / file["name"]).open("wb") as out:
            for piece in file["pieces"]:
                try:
                    out.write(_decompress((folder / piece["name"]).read_bytes(), piece["raw_bytes"]))
                except ValueError as error:
                    raise InputError(f"the piece cannot be unpacked ({error})", where=folder / piece["name"]) from None
        if sha256_of(stage / file["name"]) != file["sha256"]:
            raise InputError("the pieces do not make the file that was packed", where=folder, got=file["name"])
    found = read_store(stage).fingerprint
    if found != manifest["fingerprint"]:
        raise InputError(
            "the pieces hold another store than the manifest says", where=folder, got=found[:16],
            expected=manifest["fingerprint"][:16],
        )  # fmt: skip


def _digest(content: Json) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    """Beside, flushed, renamed: after a crash the file is whole or absent."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
