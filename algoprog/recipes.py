"""Presets by name, and the rules that turn one into a :class:`~algoprog.config.RunConfig` at a width.

A preset is a YAML file ``configs/arch/NAME.yaml``: model settings, optimiser, schedule, batch and a learning-rate law
``lr = coefficient * width^exponent``. ``depth`` and ``heads`` may be ``width/16`` (the study's shape rule). ``extends``
names the preset that a file changes. A user's own recipe is such a file anywhere; an own architecture is ``FILE.py:CLASS``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from algoprog.config import (
    LARGEST_WIDTH,
    BudgetConfig,
    Count,
    DataConfig,
    Frozen,
    InputError,
    Positive,
    RunConfig,
    ScheduleConfig,
    parse,
    read_yaml,
    tokenizer_vocabulary,
    unknown_key,
)

CONFIGS = Path(__file__).parent / "configs"
Overrides = Mapping[str, Any]


class LrLaw(Frozen):
    """Peak learning rate as a function of width."""

    coefficient: Positive
    exponent: float

    def at(self, width: int) -> float:
        return float(f"{self.coefficient * width**self.exponent:.6g}")


class Recipe(Frozen):
    """A preset as written: settings without width, vocabulary and budget."""

    description: str
    source: str
    model: dict[str, Any]
    data: dict[str, Any] = {}
    optim: dict[str, Any]
    lr: LrLaw | Positive
    schedule: ScheduleConfig = ScheduleConfig()
    batch: Count = 64


def preset_names() -> list[str]:
    """Names of all architecture presets."""
    return sorted(path.stem for path in (CONFIGS / "arch").glob("*.yaml"))


PLUGIN_BASE = "modern"
"""The preset that lends optimiser, schedule, batch and learning-rate law to an architecture from a user's file."""


def load_recipe(arch: str) -> Recipe:
    """The preset called ``arch``, a recipe from a file ``NAME.yaml``, or an architecture from a file ``NAME.py:CLASS``.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if is_plugin(arch):
        file, _, name = arch.rpartition(":")
        return _with_plugin(load_recipe(PLUGIN_BASE), {"file": file, "name": name}, f"the class {name} of {file}")
    if is_recipe_file(arch):
        return _from_file(Path(arch))
    if arch not in preset_names():
        raise unknown_key(arch, preset_names(), where="arch", kind="architecture")
    return parse(Recipe, _read_preset(arch), CONFIGS / "arch" / f"{arch}.yaml")


def is_plugin(arch: str) -> bool:
    """Whether ``arch`` names a class in a Python file."""
    return ".py:" in arch


def is_recipe_file(arch: str) -> bool:
    """Whether ``arch`` names a recipe file."""
    return arch.endswith((".yaml", ".yml"))


def label_of(arch: str) -> str:
    """The label under which runs of ``arch`` are kept: a preset's name, a class's name, or a recipe file's name."""
    if is_plugin(arch):
        return arch.rpartition(":")[2]
    return Path(arch).stem if is_recipe_file(arch) else arch


def _from_file(path: Path) -> Recipe:
    """A recipe of a user; ``extends`` names a preset, and keys that describe it may be left out."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError("not a recipe", where=path, expected="a mapping, as in configs/arch")
    base = values.pop("extends", None)
    if base is not None and base not in preset_names():
        raise unknown_key(str(base), preset_names(), where=f"{path}: extends", kind="architecture")
    model = values.get("model", {})
    plugin = values.pop("model") if isinstance(model, dict) and "file" in model else None
    start = _read_preset(base or PLUGIN_BASE) if base or plugin else {}
    told = {"description": f"recipe {path.name}", "source": str(path)}
    recipe = parse(Recipe, merge(merge(start, told), values), path)
    return recipe if plugin is None else _with_plugin(recipe, plugin, recipe.description)


def _with_plugin(recipe: Recipe, model: Overrides, description: str) -> Recipe:
    file = Path(str(model.get("file")))
    try:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=file, expected="a Python file") from None
    whole = {"family": "plugin", "depth": "width/16", **model, "sha256": sha256}
    return recipe.model_copy(update={"model": whole, "description": description})


def _read_preset(arch: str) -> dict[str, Any]:
    values = read_yaml(CONFIGS / "arch" / f"{arch}.yaml")
    base = values.pop("extends", None)
    return values if base is None else merge(_read_preset(base), values)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``change``, nested mappings merged key by key.

    Raises:
        InputError: ``change`` puts a plain value where ``base`` has a group of keys.
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and not isinstance(value, Mapping):
            raise InputError(f"{key} is a group of keys", got=str(value), expected=f"one of them, such as {key}.KEY")
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def resolve(
    arch: str,
    width: int,
    budget: BudgetConfig,
    *,
    data: Overrides | None = None,
    lr: float | None = None,
    seed: int = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
    overrides: Overrides | None = None,
    where: object = "run",
) -> RunConfig:
    """The run of preset ``arch`` at ``width`` under ``budget``, with nested ``overrides`` of any config key.

    Raises:
        InputError: unknown preset, unknown key (the nearest one is named), or values that do not fit together.
    """
    recipe = load_recipe(arch)
    values: dict[str, Any] = {
        "arch": label_of(arch),
        "model": {**recipe.model, "width": width},
        "data": merge(recipe.data, data or {}),
        "optim": dict(recipe.optim),
        "schedule": recipe.schedule.model_dump(),
        "batch": recipe.batch,
        "budget": budget.model_dump(exclude_none=True),
        "seed": seed,
        "precision": precision,
    }
    values = merge(values, overrides or {})
    width = _whole(values["model"]["width"], "width", where)
    if lr is not None:
        values["optim"]["lr"] = lr
    values["optim"].setdefault("lr", recipe.lr.at(width) if isinstance(recipe.lr, LrLaw) else recipe.lr)
    _apply_shape_rules(values["model"], width)
    values["model"].setdefault("vocab", tokenizer_vocabulary(parse(DataConfig, values["data"], where).tokenizer))
    return parse(RunConfig, values, where)


def _whole(value: object, name: str, where: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST_WIDTH:
        expected = f"a width like 64, at most {LARGEST_WIDTH}"
        raise InputError(f"{name} is not a positive whole number", where=where, got=str(value), expected=expected)
    return value


def _apply_shape_rules(model: dict[str, Any], width: int) -> None:
    """Replace ``width/16`` by numbers: depth max(1, round(width/16)) with banker's rounding (the study's rule); heads the
    same number, lowered until it divides the width."""
    layers = max(1, round(width / 16))
    if model.get("depth") == "width/16":
        model["depth"] = layers
    if model.get("heads") == "width/16":
        model["heads"] = max(h for h in range(1, layers + 1) if width % h == 0)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``["model.depth=4", "optim.clip=null"]`` as nested overrides; values are YAML.

    Raises:
        InputError: a setting without ``=``, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InputError(
                "not a setting", where="--set", got=setting, expected="KEY=VALUE, for example model.depth=4"
            )
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError("the value is not valid YAML", where=f"--set {key}", got=text) from None
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested
