"""What a sweep file may say.

A sweep file::

    name: demo
    data: {corpus: sotu, tokenizer: bpe-1024}
    settings: {batch: 16}                  # overrides for every run, any config key
    variants:                              # optional: labels for changed presets, usable as arch below
      relu: {arch: modern, settings: {model: {activation: relu}}}
    grids:                                 # every grid is the product of its lists
      - arch: [modern, relu]
        width: [32, 64]
        flops: [1e11, 1e12]                # or tokens: or tokens_per_param:
        lr: [0.003, 0.01]                  # optional, or lr_law: {coefficient: 0.1, exponent: -0.7}; default: the preset's
        lr_search: {step_decades: 0.25}    # optional: search around lr or lr_law, see algoprog.sweep.lr_search
        tune: {space: {optim.beta1: [0, 0.9]}}   # optional instead of lr: many settings at once, see algoprog.sweep.tuner
        seed: [0, 1]                       # optional
        settings: {model: {depth: 2}}      # optional overrides for this grid

``compare``, ``predict_from``, ``interactions`` and ``decompose`` say what the report answers: see :class:`SweepConfig` and
:mod:`algoprog.sweep.questions`.

A file with ``sizes`` holds several plans of one experiment: ``sizes: {cpu: {grids: ...}, gpu: {grids: ...}}``. The keys of the
size that is asked for are merged over the rest of the file, and its name is ``NAME-SIZE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from algoprog.config import BudgetConfig, Count, DataConfig, Frozen, InputError, Positive, parse, read_yaml, unknown_key
from algoprog.recipes import CONFIGS, LrLaw, label_of, merge, resolve
from algoprog.sweep.lr_search import LrSearch
from algoprog.sweep.questions import Chain, Interactions, as_chain, missing_level
from algoprog.sweep.tuner import Tuning

DEFAULT_SIZE = "cpu"


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _several(item: Any) -> Any:
    return Annotated[list[item], BeforeValidator(_as_list), Field(min_length=1)]


class Variant(Frozen):
    """A preset with changed settings, under a label of its own."""

    arch: str
    settings: dict[str, Any] = {}


class Grid(Frozen):
    """The product of its lists; exactly one kind of budget."""

    arch: _several(str)  # type: ignore[valid-type]
    width: _several(Count)  # type: ignore[valid-type]
    flops: _several(Count) | None = None  # type: ignore[valid-type]
    tokens: _several(Count) | None = None  # type: ignore[valid-type]
    tokens_per_param: _several(Positive) | None = None  # type: ignore[valid-type]
    lr: _several(Positive) | None = None  # type: ignore[valid-type]
    lr_law: LrLaw | None = None
    lr_search: LrSearch | None = None
    tune: Tuning | None = None
    seed: _several(int) = [0]  # type: ignore[valid-type]
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind_of_budget(self) -> Grid:
        given = [kind for kind in ("flops", "tokens", "tokens_per_param") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of flops, tokens, tokens_per_param; got {', '.join(given) or 'none'}")
        if self.lr is not None and self.lr_law is not None:
            raise ValueError("give lr or lr_law, not both")
        if self.tune is not None and (self.lr_search is not None or len(self.lr or [0.0]) > 1):
            raise ValueError("a grid has either tune, whose space may hold optim.lr, or lr_search or several lr")
        if self.lr_search is not None and self.lr is not None and len(self.lr) > 1:
            raise ValueError("a search starts from one lr or lr_law, not from a list")
        return self

    def budgets(self) -> list[BudgetConfig]:
        for kind in ("flops", "tokens", "tokens_per_param"):
            values = getattr(self, kind)
            if values is not None:
                return [BudgetConfig(**{kind: value}) for value in values]
        raise AssertionError("validated above")


class SweepConfig(Frozen):
    """A named plan of runs on one corpus and tokenizer. ``compare`` lists pairs [old, new] for which gains are reported.

    ``predict_from``: runs of at least so many FLOPs wait until all smaller ones have ended and their losses have been
    predicted from these; the predictions are stored before the first of them starts. ``interactions``: the runs are a
    factorial experiment. ``decompose``: architectures from old to new whose gains are divided among the steps.
    """

    name: str
    description: str = ""
    data: DataConfig
    settings: dict[str, Any] = {}
    variants: dict[str, Variant] = {}
    grids: list[Grid] = Field(min_length=1)
    compare: list[tuple[str, str]] = []
    predict_from: Count | None = None
    interactions: Interactions | None = None
    decompose: Annotated[Chain | None, BeforeValidator(as_chain)] = None


def shipped_sweeps() -> list[str]:
    """Names of the sweeps that come with the package."""
    return sorted(file.stem for file in (CONFIGS / "sweep").glob("*.yaml"))


def load_sweep(path: str | Path, size: str | None = None) -> SweepConfig:
    """Read a sweep file, or a shipped one by name (``configs/sweep/NAME.yaml``), at ``size`` (default cpu) if it has sizes.

    Raises:
        InputError: the file is missing or malformed, has no such size, a key is unknown (the nearest one is named), or
            ``interactions`` and ``decompose`` name what no run is.
    """
    if str(path) in shipped_sweeps():
        path = CONFIGS / "sweep" / f"{path}.yaml"
    elif not Path(path).exists() and Path(path).suffix not in (".yaml", ".yml"):
        raise unknown_key(str(path), shipped_sweeps(), where="SWEEP", kind="sweep")
    values = read_yaml(path)
    if isinstance(values, dict) and "sizes" in values:
        values = _at_size(values, size or DEFAULT_SIZE, path)
    elif size is not None:
        raise InputError("this sweep has no sizes", where=path, got=f"--size {size}", remedy="leave --size out")
    sweep = parse(SweepConfig, values, path)
    _check_questions(sweep, path)
    return sweep


def _check_questions(sweep: SweepConfig, path: str | Path) -> None:
    """What is asked about must be among the runs."""
    asked = [] if sweep.interactions is None else [("interactions: law_arch", [sweep.interactions.law_arch])]
    asked += [] if sweep.decompose is None else [("decompose", sweep.decompose.stages)]
    known = sorted({label_of(label) for grid in sweep.grids for label in grid.arch})
    for key, archs in asked:
        for arch in archs:
            if arch not in known:
                raise unknown_key(arch, known, where=f"{path}: {key}", kind="architecture")
    if sweep.interactions is not None:
        lacking = missing_level(sweep.interactions.factors, _configs(sweep, path))
        if lacking is not None:
            raise InputError(lacking, where=f"{path}: interactions")


def _configs(sweep: SweepConfig, path: str | Path) -> list[dict[str, Any]]:
    """The config of one run of every architecture in every grid, as plain mappings."""
    found = []
    for number, grid in enumerate(sweep.grids, 1):
        for label in grid.arch:
            variant = sweep.variants.get(label)
            own = {} if variant is None else variant.settings
            run = resolve(
                label if variant is None else variant.arch, grid.width[0], grid.budgets()[0],
                data=sweep.data.model_dump(exclude_unset=True), where=f"{path}: grid {number}",
                overrides=merge(merge(sweep.settings, own), grid.settings),
            )  # fmt: skip
            found.append(run.model_dump(mode="json"))
    return found


def _at_size(values: Mapping[str, Any], size: str, path: str | Path) -> dict[str, Any]:
    sizes = values["sizes"]
    if not isinstance(sizes, dict) or not all(isinstance(part, dict) for part in sizes.values()):
        raise InputError("sizes is not a mapping from names to settings", where=path)
    if size not in sizes:
        raise unknown_key(size, [str(name) for name in sizes], where=f"{path}: --size", kind="size")
    rest = {key: value for key, value in values.items() if key != "sizes"}
    return {**merge(rest, sizes[size]), "name": f"{values.get('name', Path(path).stem)}-{size}"}
