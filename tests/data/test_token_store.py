"""Token stores: right content, one fingerprint, and no damage or crash that goes unseen."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import DataConfig, InputError
from algoprog.data import cache as cache_module
from algoprog.data import split as split_module
from algoprog.data import tokens as tokens_module
from algoprog.data.corpus import load_corpus
from algoprog.data.split import split_documents
from algoprog.data.spool import Spool, text_digest
from algoprog.data.tokens import TokenStore, default_cache_dir, load_tokenizer, open_store, prepare


def texts_of(store: TokenStore, split: str) -> list[str]:
    tokenizer = store.tokenizer()
    return tokenizer.decode(getattr(store, split)).split("<|endoftext|>")[:-1]


# ---- the default corpus


def test_sotu_store(sotu: TokenStore) -> None:
    assert (sotu.vocab, sotu.end_of_text, sotu.train.dtype) == (1024, 1023, np.uint16)
    assert (len(sotu.train), len(sotu.validation)) == (3_943_148, 213_898)
    assert 0.05 <= sotu.validation_bytes / 12_185_751 < 0.06  # too small a corpus to hold out half a million tokens
    assert sotu.train_bytes + sotu.validation_bytes == 12_185_751
    assert sotu.meta["documents"] == {"train": 232, "validation": 17, "empty": 0, "duplicates": 0}
    assert np.count_nonzero(sotu.train == 1023) == 232 and sotu.train[-1] == sotu.validation[-1] == 1023
    assert sotu.fingerprint == "9e02f4c35d72c8155ee2f718517129d59638e01e4c9f9f87c740cca976108f7f"
    assert not sotu.train.flags.writeable
    json.dumps(sotu.meta)


def test_sotu_baselines_are_in_order(sotu: TokenStore) -> None:
    losses = sotu.meta["baselines"]
    assert losses["bigram"] < losses["unigram"] < losses["uniform"] == math.log(1024)
    assert (losses["unigram"], losses["bigram"]) == pytest.approx((5.9553, 3.8055), abs=1e-3)


def test_sotu_splits_are_disjoint_and_whole(sotu: TokenStore) -> None:
    held = set(texts_of(sotu, "validation"))
    texts = list(load_corpus("sotu").documents())
    assert len(held) == 17 and held < set(texts)
    assert sum(len(text.encode()) for text in held) == sotu.validation_bytes
    starts = np.concatenate([[0], np.flatnonzero(sotu.train == sotu.end_of_text)[:-1] + 1])
    tokenizer = sotu.tokenizer()
    opening = {tokenizer.decode(sotu.train[i : i + 60]) for i in starts}
    rest = {text for text in texts if any(text.startswith(words) for words in opening)}
    assert rest == set(texts) - held


def test_open_store_finds_what_was_prepared(sotu: TokenStore, sotu_cache: Path) -> None:
    found = open_store(DataConfig(order="streams"), sotu_cache)  # the order plays no part in the store
    assert found.fingerprint == sotu.fingerprint and np.array_equal(found.train, sotu.train)
    with pytest.raises(InputError, match="algoprog data prepare"):
        open_store(DataConfig(seed=9), sotu_cache)


# ---- content


def test_store_holds_the_documents_and_repeats_exactly(
    fake_config: DataConfig, fake_texts: list[str], tmp_path: Path
) -> None:
    stores = [prepare(fake_config, tmp_path / name, progress=False) for name in "ab"]
    assert sorted(texts_of(stores[0], "train") + texts_of(stores[0], "validation")) == sorted(fake_texts)
    names = sorted(path.name for path in stores[0].path.iterdir())
    assert names == ["blocks.sha256", "meta.json", "tokenizer.json", "train.bin", "validation.bin"]
    for name in names:
        assert (stores[0].path / name).read_bytes() == (stores[1].path / name).read_bytes()


def test_tokenizer_is_the_same_for_every_seed(fake_config: DataConfig, tmp_path: Path) -> None:
    one, two = (
        prepare(fake_config.model_copy(update={"seed": seed}), tmp_path / "c", progress=False) for seed in (0, 1)
    )
    assert one.tokenizer() == two.tokenizer()
    assert one.fingerprint != two.fingerprint
    assert np.array_equal(one.validation, two.validation)
    assert sorted(texts_of(one, "train")) == sorted(texts_of(two, "train"))
    assert not np.array_equal(one.train, two.train)
    assert load_tokenizer("bpe-300", load_corpus(fake_config.corpus), tmp_path / "d") == one.tokenizer()


def test_validation_text_does_not_depend_on_the_tokenizer(fake_config: DataConfig, tmp_path: Path) -> None:
    one, two = (
        prepare(fake_config.model_copy(update={"tokenizer": name}), tmp_path / "c", progress=False)
        for name in ("bpe-300", "gpt2")
    )
    assert texts_of(one, "validation") == texts_of(two, "validation")
    assert one.fingerprint != two.fingerprint


def test_fingerprint_ignores_the_order_of_the_source(
    fake_texts: list[str], write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    def store(texts: list[str], cache: str) -> TokenStore:
        config = DataConfig(corpus=str(write_jsonl(texts)), tokenizer="bpe-300")
        return prepare(config, tmp_path / cache, progress=False)

    one = store(fake_texts, "a")
    assert store(fake_texts[::-1], "a").fingerprint == one.fingerprint
    assert store(fake_texts[:-1] + ["another text"], "a").fingerprint != one.fingerprint
    assert np.array_equal(store(fake_texts[::-1], "b").train, one.train)


def test_vocabularies_above_65536_use_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from algoprog.data.store import token_dtype

    assert [token_dtype(v).itemsize for v in (65536, 65537)] == [2, 4]


def test_large_ids_are_written_whole(fake_config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of four-byte ids, without training 65,537 merges: the limit is lowered instead."""
    wide = np.dtype("<u4")
    for module in ("algoprog.data.tokens", "algoprog.data.store"):
        monkeypatch.setattr(f"{module}.token_dtype", lambda vocab: wide)
    store = prepare(fake_config, tmp_path / "c", progress=False)
    assert store.train.dtype == wide and store.train[-1] == 299
    assert store.meta["files"]["train.bin"]["bytes"] == 4 * len(store.train)


# ---- splits


def spool_of(texts: list[str], tmp_path: Path) -> Spool:
    data = [text.encode() for text in texts]
    starts = np.cumsum([0, *map(len, data)])
    return Spool(tmp_path / "unused", starts, [text_digest(text) for text in data], 0)


some_texts = st.lists(st.integers(0, 30), min_size=12, max_size=80)


@settings(deadline=None, max_examples=80)
@given(numbers=some_texts, seed=st.integers(0, 5), data=st.data())
def test_split_depends_on_text_alone(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], seed: int, data: st.DataObject
) -> None:
    texts = [f"text number {n} " * (n + 3) for n in numbers] + [f"filler {i} " * 40 for i in range(20)]
    mixed = data.draw(st.permutations(texts))
    found = []
    for order in (texts, mixed):
        split = split_documents(spool_of(order, Path()), seed, "test")
        train, held = [order[i] for i in split.train], [order[i] for i in split.validation]
        assert sorted(train + held) == sorted(texts)
        assert not set(train) & set(held), "copies of a text must land in one split"
        assert sorted({*train}) == sorted(order[i] for i in split.sample)
        total = sum(map(len, texts))
        assert 0.05 * total <= sum(map(len, held)) <= 0.25 * total
        found.append((train, held))
    assert found[0] == found[1]


@pytest.mark.parametrize(("enough", "expected"), [(600, 60), (601, 30)])
def test_large_corpora_hold_out_enough_bytes_and_small_ones_a_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, enough: int, expected: int
) -> None:
    """6000 bytes of text: a tenth is affordable, more is not, and then it is a twentieth."""
    monkeypatch.setattr(split_module, "VALIDATION_BYTES", enough)
    texts = [f"{i:09} " for i in range(600)]
    split = split_documents(spool_of(texts, tmp_path), 0, "test")
    assert len(split.validation) == expected


def test_shuffle_changes_with_the_seed_and_parts_copies(tmp_path: Path) -> None:
    texts = ["repeated text"] * 5 + [f"text {i}" for i in range(100)]
    orders = [split_documents(spool_of(texts, tmp_path), seed, "test") for seed in (0, 1)]
    assert orders[0].train != orders[1].train and orders[0].validation == orders[1].validation
    assert orders[0].duplicates == 4
    places = [i for i, document in enumerate(orders[0].train) if document < 5]
    assert len(places) == 5 and max(places) - min(places) > 4  # apart, though one text


# ---- too little


def test_one_document_cannot_be_split(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    config = DataConfig(corpus=str(write_jsonl(["only one"])), tokenizer="gpt2")
    with pytest.raises(InputError, match="too few documents"):
        prepare(config, tmp_path / "c", progress=False)
    config = DataConfig(corpus=str(write_jsonl([" ", "\n"])), tokenizer="gpt2")
    with pytest.raises(InputError, match="no text.*2 empty"):
        prepare(config, tmp_path / "c", progress=False)
    assert not list((tmp_path / "c/tokens").glob("*/"))


def test_lone_surrogates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "bad \\ud800"}\n')
    with pytest.raises(InputError, match="document 1 is not valid Unicode"):
        prepare(DataConfig(corpus=str(path), tokenizer="gpt2"), tmp_path / "c", progress=False)


def test_windows_longer_than_a_split(fake_config: DataConfig, tmp_path: Path) -> None:
    store = prepare(fake_config, tmp_path / "c", progress=False)
    shorter = len(store.validation)
    store.require_window(shorter - 1)
    with pytest.raises(InputError, match=f"validation split.*got '{shorter} tokens.*at least {shorter + 1}"):
        store.require_window(shorter)


# ---- faults


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, shorten, empty, Path.unlink])
@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "tokenizer.json", "meta.json"])
def test_every_damage_is_named(
    fake_config: DataConfig, tmp_path: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    folder = prepare(fake_config, tmp_path / "c", progress=False).path
    damage(folder / name)
    for again in (prepare, open_store):
        with pytest.raises(InputError, match="prepare") as caught:
            again(fake_config, tmp_path / "c")
        assert str(folder) in str(caught.value)


def test_every_flipped_byte_of_meta_is_seen(fake_config: DataConfig, tmp_path: Path) -> None:
    path = prepare(fake_config, tmp_path / "c", progress=False).path / "meta.json"
    good = path.read_bytes()
    quoted = [i for i, byte in enumerate(good) if chr(byte).isalnum()]
    for at in quoted[:: len(quoted) // 150]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(InputError):
            open_store(fake_config, tmp_path / "c")
    path.write_bytes(good)
    open_store(fake_config, tmp_path / "c")


def test_ids_beyond_the_vocabulary_are_seen(fake_config: DataConfig, tmp_path: Path) -> None:
    """Also when size and sha256 agree, as in a store that another program wrote."""
    from algoprog.data.store import write_meta

    store = prepare(fake_config, tmp_path / "c", progress=False)
    (store.path / "train.bin").write_bytes(np.full(len(store.train), 300, "<u2").tobytes())
    write_meta(store.path, {k: v for k, v in store.meta.items() if k not in ("files", "format")})
    with pytest.raises(InputError, match="largest id 300.*ids below 300"):
        open_store(fake_config, tmp_path / "c")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("name", ["spool", "tokenizer.json", "train.bin", "meta.json"])
def test_disk_errors_leave_nothing(
    fake_config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    real = Path.open

    class Full:
        """A file on a full disk: opens, but takes no bytes."""

        def __init__(self, file: Any, path: Path):
            self.file, self.path = file, path

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, _: object) -> int:
            raise OSError(code, os.strerror(code), str(self.path))

    def open_full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = real(path, mode, *args, **options)
        return Full(file, path) if path.name == name and "w" in mode else file

    monkeypatch.setattr(Path, "open", open_full)
    monkeypatch.setattr(Path, "write_text", lambda path, text, encoding: _write(path, text))
    with pytest.raises(InputError, match="disk is full|cannot be written"):
        prepare(fake_config, tmp_path / "c", progress=False)
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "c").rglob("*") if path.name in (name, "train.bin")]
    assert not list((tmp_path / "c").rglob("*.partial-*"))
    prepare(fake_config, tmp_path / "c", progress=False)


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)


def test_unwritable_cache(fake_config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written.*ALGOPROG_CACHE"):
        prepare(fake_config, tmp_path / "file", progress=False)


KILLED = """
import os, sys
from pathlib import Path
from algoprog.config import DataConfig
from algoprog.data import cache, tokens
def die(*_):
    os._exit(9)
target, name = sys.argv[3].split(":")
setattr({"os": os, "tokens": tokens}[target], name, die)
tokens.prepare(DataConfig(corpus=sys.argv[1], tokenizer="gpt2"), Path(sys.argv[2]), progress=False)
"""


@pytest.mark.parametrize("moment", ["os:rename", "tokens:baselines", "tokens:write_meta"])
def test_a_killed_build_leaves_no_store_and_is_swept(fake_config: DataConfig, tmp_path: Path, moment: str) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(tokens_module.__file__).parents[2])}
    cache = tmp_path / "c"
    command = [sys.executable, "-c", KILLED, fake_config.corpus, str(cache), moment]
    assert subprocess.run(command, env=env, check=False).returncode == 9
    config = fake_config.model_copy(update={"tokenizer": "gpt2"})
    assert len(list((cache / "tokens").glob("*.partial-*"))) == 1
    with pytest.raises(InputError, match="no prepared tokens"):
        open_store(config, cache)
    prepare(config, cache, progress=False)
    assert not list((cache / "tokens").glob("*.partial-*"))


def _prepare_in_child(config: DataConfig, cache: Path, queue: Any) -> None:
    queue.put(prepare(config, cache, progress=False).fingerprint)


def test_two_processes_at_once(fake_config: DataConfig, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_prepare_in_child, args=(fake_config, tmp_path / "c", queue)) for _ in range(2)]
    for child in children:
        child.start()
    fingerprints = {queue.get(timeout=50) for _ in children}
    for child in children:
        child.join(10)
        assert child.exitcode == 0
    assert len(fingerprints) == 1
    assert len([path for path in (tmp_path / "c/tokens").iterdir() if path.is_dir()]) == 1


def test_a_second_builder_waits_and_uses_the_first_result(tmp_path: Path) -> None:
    """The lock is held while building, so a builder inside a builder of the same folder would never be needed."""
    final = tmp_path / "x"
    built = []

    def build(stage: Path) -> None:
        built.append(stage)
        (stage / "file").write_text("x")

    for _ in range(3):
        cache_module.build_once(final, build)
    assert len(built) == 1 and (final / "file").read_text() == "x"


# ---- where, and what is said


def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOPROG_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache_dir() == Path("/a")
    monkeypatch.delenv("ALGOPROG_CACHE")
    assert default_cache_dir() == Path("/b/algoprog")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache/algoprog"


def test_progress_never_touches_stdout(
    fake_config: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(fake_config, tmp_path / "c", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "tokenizing" in err
    prepare(fake_config, tmp_path / "c", progress=True)
    assert capsys.readouterr() == ("", "")


def test_progress_callback(fake_config: DataConfig, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    store = prepare(fake_config, tmp_path / "c", progress=lambda *call: calls.append(call))
    total = store.train_bytes + store.validation_bytes
    assert calls[-2] == ("tokenizing", total, total)
