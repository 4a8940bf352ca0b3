"""Token files that are damaged before or after they are opened, and arrays that check what they read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import InputError
from algoprog.data import blocks, store
from algoprog.data.blocks import BLOCK_BYTES, RECHECK_EVERY, CheckedTokens, block_digests
from algoprog.data.store import read_store
from benchmarks.faults import token_flips
from benchmarks.faults.corpora import small_tokens

SIZE = 3 * BLOCK_BYTES // 2 + 7  # ids of two bytes: three blocks and a part of a fourth


class Damaged(Exception):
    """The block that a :class:`CheckedTokens` complains of."""


def complain(block: int, expected: str, found: str) -> Exception:
    assert expected != found
    return Damaged(block)


def checked(path: Path, *, trusted: bool = False) -> CheckedTokens:
    return CheckedTokens.open(path, np.dtype("<u2"), block_digests(path), complain, trusted=trusted)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 300, SIZE).astype("<u2")


@pytest.fixture()
def file(tmp_path: Path, ids: np.ndarray) -> Path:
    path = tmp_path / "ids.bin"
    path.write_bytes(ids.tobytes())
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tokens(tmp_path_factory.mktemp("tokens")).path


def rewrite_meta(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the list of files in ``meta.json``, with a digest that fits."""
    meta = json.loads((folder / "meta.json").read_text())
    del meta["sha256"]
    change(meta["files"])
    (folder / "meta.json").write_text(json.dumps(meta | {"sha256": store._digest(meta)}))


def test_single_bit_flips_are_all_detected(prepared: Path, tmp_path: Path) -> None:
    found = token_flips.run(90, Path(shutil.copytree(prepared, tmp_path / "copy")), seed=1)
    assert found["not detected"] == 0 and found["at open"] > 30 and found["at read"] > 20


def test_the_message_names_file_place_and_remedy(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    monkeypatch.setattr(store, "HASHED_WHOLE_BYTES", 0)
    token_flips.flip(folder / "train.bin", 8 * 100)
    tokens = read_store(folder).train
    with pytest.raises(InputError, match=r"train.bin from byte 0: .*damaged; got 'sha256 .*delete the folder"):
        tokens[np.arange(5)]


def test_a_large_store_is_not_read_at_open(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    hashed: list[str] = []
    real = store.sha256_of
    monkeypatch.setattr(store, "sha256_of", lambda path: hashed.append(path.name) or real(path))
    read_store(folder)
    assert "train.bin" in hashed
    hashed.clear()
    monkeypatch.setattr(store, "HASHED_WHOLE_BYTES", 0)
    read_store(folder)
    assert "train.bin" not in hashed and "validation.bin" in hashed


def test_a_store_without_block_digests_opens_and_is_hashed_whole(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was prepared before they were kept."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    rewrite_meta(folder, lambda files: files.pop("blocks.sha256"))
    (folder / "blocks.sha256").unlink()
    monkeypatch.setattr(store, "HASHED_WHOLE_BYTES", 0)
    old = read_store(folder)
    assert not isinstance(old.train, CheckedTokens) and np.array_equal(old.train, read_store(prepared).train)
    token_flips.flip(folder / "train.bin", 8 * 100)
    with pytest.raises(InputError, match="damaged"):
        read_store(folder)


def test_files_that_no_store_has_are_refused(prepared: Path, tmp_path: Path) -> None:
    """A meta.json from elsewhere names no file outside of its folder."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    rewrite_meta(folder, lambda files: files.update({"../../outside": {"bytes": 1, "sha256": "0"}}))
    with pytest.raises(InputError, match="meta.json: .*damaged"):
        read_store(folder)


# ---- arrays that check


INDEXES = st.one_of(
    st.integers(-SIZE, SIZE - 1),
    st.slices(SIZE),
    st.lists(st.integers(-SIZE, SIZE - 1), max_size=20).map(lambda found: np.array(found, dtype=np.int64)),
    st.lists(st.integers(0, SIZE - 20), min_size=1, max_size=5).map(
        lambda found: np.array(found)[:, None] + np.arange(9)
    ),
)


@settings(max_examples=60, deadline=None)
@given(index=INDEXES, trusted=st.booleans())
def test_indexing_gives_what_numpy_gives(
    index: Any, trusted: bool, ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "indexed.bin"
    if not path.exists():
        path.write_bytes(ids.tobytes())
    found = checked(path, trusted=trusted)[index]
    assert np.array_equal(found, ids[index]) and not isinstance(found, np.memmap)


@settings(max_examples=60, deadline=None)
@given(index=INDEXES, place=st.integers(0, SIZE - 1))
def test_damage_is_raised_if_and_only_if_its_block_is_read(
    index: Any, place: int, ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(ids.tobytes())
    tokens = checked(path)
    token_flips.flip(path, 16 * place + 3)
    per_block = BLOCK_BYTES // 2
    read = np.unique(np.atleast_1d(np.arange(SIZE)[index]) // per_block)
    if isinstance(index, slice) and len(read):
        read = np.arange(read[0], read[-1] + 1)  # a slice with a step skips no block
    if place // per_block in read:
        with pytest.raises(Damaged):
            tokens[index]
    else:
        assert np.array_equal(tokens[index], ids[index])


def test_a_block_that_changes_after_it_was_read_is_found_later(file: Path, ids: np.ndarray) -> None:
    tokens = checked(file, trusted=True)
    token_flips.flip(file, 16 * 5)
    with pytest.raises(Damaged, match="0"):
        for _ in range(RECHECK_EVERY * 5):
            tokens[:4]


def test_an_index_beyond_the_end_is_numpys_complaint(file: Path) -> None:
    for index in (SIZE, -SIZE - 1, np.array([SIZE + BLOCK_BYTES])):
        with pytest.raises(IndexError):
            checked(file)[index]


def test_check_all_reads_everything_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = checked(file)
    tokens.check_all()
    token_flips.flip(file, 16 * 5)
    tokens.check_all()
    monkeypatch.setattr(blocks, "RECHECK_EVERY", 10**9)
    tokens[:4]
    fresh = CheckedTokens.open(file, np.dtype("<u2"), tokens._digests, complain, trusted=False)
    with pytest.raises(Damaged):
        fresh.check_all()
