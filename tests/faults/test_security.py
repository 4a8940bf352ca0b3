"""Files from others: they execute nothing, reach nothing outside their folder, and show as text."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import algoprog
from algoprog.config import BudgetConfig, DataConfig, InputError, read_yaml
from algoprog.data.corpus import load_corpus
from algoprog.data.packages import unpack
from algoprog.data.tokens import store_folder
from algoprog.recipes import resolve
from algoprog.report.page import write_report
from algoprog.sweep.store import open_for_driving

ROOT = Path(algoprog.__file__).resolve().parent.parent
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NETWORK = {"urllib", "requests", "http", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"}
CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load",
    "pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "os.system",
    "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput",
}  # fmt: skip


# ---- no call that can execute what a file says


def sources() -> list[Path]:
    folders = ("algoprog", "kernels", "benchmarks", "docs")
    found = {path.resolve() for folder in folders for path in (ROOT / folder).rglob("*.py")}
    return sorted({*found, *ROOT.glob("*.py")})


def dangers(text: str) -> Iterator[str]:
    """What must not be in a module, by line."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] in MODULES | NETWORK:
                yield f"line {node.lineno}: import of {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield f"line {node.lineno}: call of {called}"
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                if keyword.arg in ("shell", "allow_pickle") and value != "False":
                    yield f"line {node.lineno}: {keyword.arg}={value}"
                if keyword.arg == "weights_only" and value != "True":
                    yield f"line {node.lineno}: weights_only={value}"
            if (
                called.startswith("subprocess.")
                and node.args
                and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            ):
                yield f"line {node.lineno}: {called} with one string"
            if called.endswith("tar.extractall") and not any(k.arg == "filter" for k in node.keywords):
                yield f"line {node.lineno}: {called} without a filter"


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from pickle import loads", "import urllib.request", "eval('1')", "torch.load(f)", "yaml.load(f)",
     "subprocess.run(command, shell=True)", "subprocess.run('ls')", "np.load(f, allow_pickle=True)", "os.system('x')",
     "tar.extractall(t)", "torch.load(f, weights_only=False)"],
)  # fmt: skip
def test_the_scan_sees_what_it_looks_for(text: str) -> None:
    assert list(dangers(text))


def test_no_module_executes_what_a_file_says() -> None:
    assert len(sources()) > 150
    found = {str(path.relative_to(ROOT)): list(dangers(path.read_text())) for path in sources()}
    assert not {name: lines for name, lines in found.items() if lines}


def test_yaml_tags_construct_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    for number, text in enumerate(
        [f"!!python/object/apply:os.system ['touch {marker}']", f"a: !!python/object/new:pathlib.Path ['{marker}']",
         "!!python/name:os.system", "!!python/module:os"]
    ):  # fmt: skip
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match="not valid YAML"):
            read_yaml(path)
    assert not marker.exists()


# ---- no path that leaves its folder


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=40) | st.sampled_from(["../../x", "/etc/passwd", "..", "a/../../b", "C:\\x"]))
def test_a_corpus_name_stays_in_the_cache(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    import dataclasses

    cache = tmp_path_factory.getbasetemp() / "names"
    corpus = dataclasses.replace(load_corpus("sotu", cache), name=name)
    folder = store_folder(DataConfig(), corpus, cache)
    assert folder.resolve().parent == (cache / "tokens").resolve()


@pytest.mark.parametrize("arch", ["../../x", "a/b", "a\\b", "a\nb", ""])
def test_an_architecture_label_is_no_path(arch: str) -> None:
    with pytest.raises(InputError, match="arch"):
        resolve("modern", 16, BudgetConfig(flops=10**10), overrides={"arch": arch})


@pytest.mark.parametrize("tokenizer", ["../bpe-300", "bpe-300/../..", "gpt2/x"])
def test_a_tokenizer_name_is_no_path(tokenizer: str) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        DataConfig(tokenizer=tokenizer)


def hostile_tar(path: Path, member: tarfile.TarInfo, content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        member.size = len(content) if member.isreg() else 0
        tar.addfile(member, io.BytesIO(content))
    return path


def members() -> Iterator[tarfile.TarInfo]:
    for name in ("../outside", "/tmp/algoprog-outside", "a/../../outside"):
        yield tarfile.TarInfo(name)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "../../outside"
        yield link
    device = tarfile.TarInfo("device")
    device.type = tarfile.CHRTYPE
    yield device


@pytest.mark.parametrize("member", list(members()), ids=lambda member: f"{member.name}-{member.type!r}")
def test_a_tar_member_lands_inside_or_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    target = tmp_path / "folder" / "target"
    target.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*")} | {Path("/tmp/algoprog-outside")}
    try:
        unpack(hostile_tar(tmp_path / "a.tar.gz", member), target)
    except InputError as error:
        assert "cannot be unpacked" in str(error)
    new = {path for path in tmp_path.rglob("*")} - before - {tmp_path / "a.tar.gz"}
    assert all(path.is_relative_to(target) and not path.is_symlink() for path in new)
    assert not Path("/tmp/algoprog-outside").exists()


def test_a_zip_member_lands_inside(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "target"
    target.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in ("../outside", "/etc/outside", "a/../../../outside"):
            archive.writestr(name, "x")
    unpack(tmp_path / "a.whl", target)
    assert {path.name for path in tmp_path.iterdir()} == {"a.whl", "folder"}
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["target"]


@pytest.mark.parametrize("name", ["a.whl", "a.tar.gz"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b" + b"junk" * 50)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / name, tmp_path / "target")


# ---- the report shows every string as text


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}${_x$"


class Tags(HTMLParser):
    """Every tag, every attribute and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def evil(path: str) -> str:
    """The hostile string with the name of its place, so that a missing escape says where."""
    return f"{path}{EVIL}"


def hostile_sweep(folder: Path) -> None:
    """A store in which every string that a user or a file can choose is hostile."""
    archs = [evil("old"), evil("new")]
    meta: dict[str, Any] = {
        "sweep": {"name": evil("name"), "description": evil("description"), "compare": [archs]},
        "data": {
            "corpus": {"name": evil("corpus"), "description": evil("corpus-description")}, "licence": evil("licence"),
            "provenance": evil("provenance"), "tokenizer": {"name": evil("tokenizer")}, "vocab": 300,
            "fingerprint": evil("fingerprint"), "train_tokens": 10, "validation_tokens": 10, "validation_bytes": 10,
            "baselines": {evil("baseline"): 6.0, "unigram": 5.0},
        },
        "software": {"python": evil("python"), "torch": evil("torch"), "commit": evil("commit"), "source_sha256": evil("sha")},
        "command": evil("command"),
    }  # fmt: skip
    provenance = {"device": evil("device"), "threads": 1, **meta["software"]}
    with open_for_driving(folder) as store:
        store.set_meta(meta)
        for row, arch in enumerate(archs):
            for step, flops in enumerate((1e10, 4e10, 1.6e11, 6.4e11)):
                digest = evil(f"run-{row}-{step}")
                store.add_runs(
                    [{
                        "digest": digest, "arch": arch, "width": 16, "seed": 0, "params": 1000, "steps": 100, "tokens": 5000,
                        "flops": int(flops), "config": json.dumps({"model": {"depth": 2}, "optim": {"lr": 0.01}}),
                    }]
                )  # fmt: skip
                store.start_attempt(digest, evil("worker"), provenance)
                row_ = {"step": 100, "tokens": 5000, "flops": int(flops), "loss": 3.0, "grad_norm": 1.0, "lr": 0.01}
                store.add_metrics(digest, [{**row_, "step": 50, "flops": int(flops / 2), "loss": 3.5}, row_])
                loss = 1.9 + (20 + row) * flops ** -(0.08 + 0.005 * row)
                store.end_attempt(
                    digest, "done", evil("message"),
                    {
                        "state": "done", "tokens": 5000, "flops": flops, "loss": loss, "bits_per_byte": 1.0, "epochs": 1.0,
                        "seconds": {"train": 1.0, "evaluate": 1.0}, "message": evil("result"),
                        "kernels": {"fused": [evil("kernel")], "reference": []},
                    },
                )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tags]:
    """The report of the hostile sweep, figures drawn for real: their labels are strings from a file, too."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile_sweep(folder)
    html = write_report(folder, draws=100).page.read_text(encoding="utf-8")
    return html, Tags(html)


def test_no_string_of_a_store_becomes_markup(page: tuple[str, Tags]) -> None:
    html, tags = page
    assert not tags.tags & {"iframe", "object", "embed"}
    assert "onerror" not in {name for name, _ in tags.attributes}
    # The page has scripts of its own: data, which no browser runs, and those whose hash its policy names. No other is there.
    for attributes, text in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        data = any(f'type="{kind}' in attributes for kind in ("application/json", "text/plain"))
        assert data or f"sha256-{digest}" in html, text[:80]
    assert all(value.startswith("data:") for name, value in tags.attributes if name in ("src", "href"))
    assert "49" not in re.findall(r"name.{0,80}", tags.text)[0], "no template runs inside a name"


@pytest.mark.parametrize(
    "place", ["old", "new", "name", "corpus", "licence", "command", "device", "run-0-0"]
)  # fmt: skip
def test_a_hostile_string_shows_as_it_is(page: tuple[str, Tags], place: str) -> None:
    assert evil(place) in page[1].text, place
