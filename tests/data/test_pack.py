"""Packing and unpacking: the same tokens come out, damage is named, and a manifest cannot reach outside its folder."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.config import DataConfig, InputError
from algoprog.data import pack as packing
from algoprog.data.pack import MANIFEST, pack, unpack
from algoprog.data.tokens import TokenStore, open_store, prepare

SMALL = 20_000  # bytes: several pieces out of a small store


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]
    rng = np.random.default_rng(0)
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"document {number} " + " ".join(rng.choice(words, 800)))
    return folder


@pytest.fixture(scope="module")
def store(text: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return prepare(DataConfig(corpus=str(text), tokenizer="bpe-280"), tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture
def packed(store: TokenStore, tmp_path: Path) -> Path:
    pack(store, tmp_path / "pack", False, SMALL)
    return tmp_path / "pack"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and give it a checksum that fits, as somebody with bad intent would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["sha256"]
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sha256": packing._digest(manifest)}))


def test_the_same_store_comes_out(store: TokenStore, packed: Path, tmp_path: Path) -> None:
    again = unpack(packed, tmp_path / "there")
    assert again.fingerprint == store.fingerprint and again.meta == store.meta
    assert np.array_equal(again.train, store.train) and np.array_equal(again.validation, store.validation)
    assert len(list(packed.glob("train.bin.*.xz"))) > 1
    assert unpack(packed, tmp_path / "there").path == again.path  # a second call keeps it


def test_a_config_finds_what_was_unpacked_into_another_cache(text: Path, packed: Path, tmp_path: Path) -> None:
    unpack(packed, cache_dir=tmp_path / "other")
    assert open_store(DataConfig(corpus=str(text), tokenizer="bpe-280"), tmp_path / "other").train.size > 0


def test_pieces_stay_within_their_limit_whatever_they_hold(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(packing.PIECE_BYTES >> 6)
    piece, _ = packing._write_piece(tmp_path, "noise.bin", 0, noise)
    assert piece["bytes"] < len(noise) * packing.LARGEST_PIECE_BYTES / packing.PIECE_BYTES


def test_packing_again_keeps_right_pieces_and_mends_the_others(store: TokenStore, packed: Path) -> None:
    pieces = sorted(packed.glob("*.xz"))
    times = {path.name: path.stat().st_mtime_ns for path in pieces}
    pieces[0].write_bytes(pieces[0].read_bytes()[:-9])
    pieces[1].unlink()
    (packed / MANIFEST).unlink()  # as if the first call had been killed
    result = pack(store, packed, False, SMALL)
    assert result["kept"] == len(pieces) - 2 == result["pieces"] - 2
    changed = {path.name for path in packed.glob("*.xz") if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {pieces[0].name, pieces[1].name}


def test_every_bad_piece_is_named_and_nothing_is_left(packed: Path, tmp_path: Path) -> None:
    missing, cut, flipped = sorted(packed.glob("train.bin.*.xz"))[:3]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(bytes(data))
    with pytest.raises(InputError) as error:
        unpack(packed, tmp_path / "there")
    for path, word in ((missing, "missing"), (cut, "bytes"), (flipped, "damaged")):
        assert path.name in str(error.value) and word in str(error.value)
    assert not list(tmp_path.glob("there*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(store="../../evil"),
        lambda m: m.update(store=".."),
        lambda m: m["files"][0].update(name="../train.bin"),
        lambda m: m["files"][0].update(name="/etc/passwd"),
        lambda m: m["files"][0]["pieces"][0].update(name="../../secret.0000-0123456789abcdef.xz"),
        lambda m: m["files"][0]["pieces"][0].update(raw_bytes=2**40),
        lambda m: m["files"][0]["pieces"][0].update(sha256="x"),
        lambda m: m["files"][0].update(name=7),
        lambda m: m["files"][0].pop("name"),
        lambda m: m.pop("files"),
    ],
)
def test_a_manifest_cannot_reach_outside(change: Callable[[Any], object], packed: Path, tmp_path: Path) -> None:
    rewrite(packed, change)
    with pytest.raises(InputError, match="not allowed|do not add up|incomplete"):
        unpack(packed, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_piece_that_explodes_is_cut_short(packed: Path, tmp_path: Path) -> None:
    bomb = lzma.compress(bytes(50_000_000))
    manifest = json.loads((packed / MANIFEST).read_text())
    name = manifest["files"][0]["pieces"][0]["name"]
    (packed / name).write_bytes(bomb)

    def fit(m: dict[str, Any]) -> None:
        m["files"][0]["pieces"][0].update(bytes=len(bomb), sha256=packing.sha256_of(packed / name))

    rewrite(packed, fit)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(packed, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_symbolic_link_is_no_piece(packed: Path, tmp_path: Path) -> None:
    piece = next(packed.glob("train.bin.*.xz"))
    piece.rename(tmp_path / "elsewhere")
    piece.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="missing"):
        unpack(packed, tmp_path / "there")


def test_another_store_or_pack_is_not_overwritten(store: TokenStore, packed: Path, tmp_path: Path) -> None:
    rewrite(packed, lambda m: m.update(fingerprint="0" * 64))
    with pytest.raises(InputError, match="another pack"):
        pack(store, packed, False, SMALL)
    with pytest.raises(InputError, match="another store"):
        unpack(packed, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_found(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(packed.iterdir())))
    before = path.read_bytes()
    changed = bytearray(before)
    changed[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(changed))
    try:
        with pytest.raises(InputError):
            unpack(packed, tmp_path / "never")
        assert not (tmp_path / "never").exists()
    finally:
        path.write_bytes(before)


def test_commands(text: Path, tmp_path: Path) -> None:
    runner, there = CliRunner(), tmp_path / "there"
    arguments = ["data", "pack", str(text), "--tokenizer", "bpe-280", "--out", str(tmp_path / "p"), "--json"]
    first = runner.invoke(app, arguments)
    assert first.exit_code == 0, first.stderr
    made = json.loads(first.stdout)
    assert made["kept"] == 0 and json.loads(runner.invoke(app, arguments).stdout)["kept"] == made["pieces"]
    second = runner.invoke(app, ["data", "unpack", str(tmp_path / "p"), "--out", str(there), "--json"])
    assert json.loads(second.stdout)["fingerprint"] == made["fingerprint"]
    wrong = runner.invoke(app, ["data", "unpack", str(tmp_path / "nothing")])
    assert wrong.exit_code == 2 and wrong.stderr.count("\n") == 1
