"""Frozen, validated configuration of one run, and the name that follows from it.

A :class:`RunConfig` holds everything that can change a result, fully resolved: no defaults that depend on a machine, no
"auto". Its canonical JSON, hashed together with the fingerprint of the data, is the run's name. Presets and rules that
lead to a ``RunConfig`` live in :mod:`algoprog.recipes`.

Units: ``width`` and ``context`` in positions, ``flops`` in floating-point operations of training (convention
``causal_exact``), ``tokens`` in training targets, ``lr`` per optimiser step.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import pydantic
import yaml
from pydantic import BeforeValidator, Field, model_validator


class InputError(ValueError):
    """Bad input from a user: one line that says what, where, got, expected and remedy. The CLI exits with code 2."""

    def __init__(
        self, what: str, *, where: object = None, got: object = None, expected: object = None, remedy: str | None = None
    ):
        parts = [what if where is None else f"{where}: {what}"]
        if got is not None:
            parts.append(f"got {got!r}" if isinstance(got, str) else f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if remedy is not None:
            parts.append(remedy)
        super().__init__("; ".join(" ".join(str(part).split()) for part in parts))


def _number(value: object) -> object:
    """Accept ``1e15`` from YAML and from the command line, where it arrives as text or as a float."""
    if isinstance(value, bool):
        raise ValueError(f"a number is needed, not {value}")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


Count = Annotated[int, BeforeValidator(_number), Field(gt=0, lt=2**63)]
# Far beyond any model; without a limit a slip of the pen keeps a plan counting for ever.
LARGEST_WIDTH, LARGEST_DEPTH = 2**20, 2**12
Width = Annotated[int, BeforeValidator(_number), Field(gt=0, le=LARGEST_WIDTH)]
Depth = Annotated[int, BeforeValidator(_number), Field(gt=0, le=LARGEST_DEPTH)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Frozen(pydantic.BaseModel):
    """Base of every config: immutable, and unknown keys are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)
    keys_of_later: ClassVar[frozenset[str]] = frozenset()


class TransformerConfig(Frozen):
    """A decoder-only transformer. Defaults are those of the ``modern`` preset as the study ran it."""

    family: Literal["transformer"] = "transformer"
    width: Width
    depth: Depth
    heads: Count
    vocab: Count
    context: Count = 128
    norm: Literal["rms", "layernorm"] = "rms"
    norm_eps: Positive = 1e-8
    norm_placement: Literal["pre", "post"] = "pre"
    final_norm: Literal["layernorm", "rms"] = "layernorm"
    activation: Literal["swiglu", "glu", "gelu", "relu"] = "swiglu"
    mlp_ratio: Positive = 4.0
    mlp_multiple: Count = 1
    position: Literal["rotary", "sinusoidal", "learned"] = "rotary"
    rotary_base: Positive = 10000.0
    bias: bool = True
    tied: bool = True
    init: Literal["normal", "transformer_scaled", "xavier_uniform", "kaiming_normal"] = "normal"
    init_std: Positive = 0.02

    @property
    def mlp_width(self) -> int:
        """F, the hidden width of the feed-forward block: ``mlp_ratio * width`` to the nearest ``mlp_multiple``."""
        return max(1, round(self.mlp_ratio * self.width / self.mlp_multiple)) * self.mlp_multiple

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TransformerConfig:
        if self.width % self.heads:
            divisors = [h for h in range(1, self.width + 1) if self.width % h == 0]
            nearest = min(divisors, key=lambda h: abs(h - self.heads))
            raise ValueError(
                f"width {self.width} is not divisible by heads {self.heads}; "
                f"the nearest number of heads that divides it is {nearest}"
            )
        if self.position == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"rotary positions rotate pairs, but width {self.width} / heads {self.heads} = "
                f"{self.width // self.heads} is odd; choose heads so that the head dimension is even"
            )
        if self.position == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, got {self.width}")
        return self


class LstmConfig(Frozen):
    """A stack of LSTM layers width -> width without projections or residuals.

    ``forget_bias`` is the effective bias of the forget gate, split evenly over PyTorch's two bias vectors.
    ``bptt`` is the truncation length in tokens; it divides ``context``. ``evaluation`` says which validation score is the
    run's loss: ``streaming`` carries the state through the split, ``windowed`` starts each window from zero; both are stored.
    """

    family: Literal["lstm"] = "lstm"
    width: Width
    depth: Depth = 1
    vocab: Count
    context: Count = 128
    forget_bias: float = 1.0
    recurrent_init: Literal["orthogonal", "xavier_uniform"] = "orthogonal"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: bool = True
    tied: bool = True
    bptt: Count = 32
    carry_state: bool = True
    reset_probability: Fraction = 0.01
    evaluation: Literal["streaming", "windowed"] = "streaming"

    @model_validator(mode="after")
    def _bptt_divides_context(self) -> LstmConfig:
        if self.context % self.bptt:
            raise ValueError(f"context {self.context} is not a multiple of bptt {self.bptt}")
        return self


class PluginConfig(Frozen):
    """A model class ``name`` in a user's Python ``file`` whose contents have this ``sha256``; see
    :mod:`algoprog.models.plugin`. ``settings`` go to its constructor."""

    family: Literal["plugin"] = "plugin"
    file: str
    name: str
    sha256: str
    width: Width
    depth: Depth = 1
    vocab: Count
    context: Count = 128
    settings: dict[str, Any] = {}

    def __hash__(self) -> int:
        return hash(canonical_json(self))


ModelConfig = Annotated[TransformerConfig | LstmConfig | PluginConfig, Field(discriminator="family")]
MODEL_FAMILIES: dict[str, type[Frozen]] = {"transformer": TransformerConfig, "lstm": LstmConfig, "plugin": PluginConfig}


class DataConfig(Frozen):
    """Which tokens: a corpus (name, path, or YAML file), a tokenizer (``gpt2`` or ``bpe-SIZE``), an order.

    ``order`` is ``shuffled`` (disjoint windows in a keyed permutation) or ``streams`` (contiguous streams, which carried
    recurrent state needs). ``seed`` shuffles documents once for the whole corpus; it is not the run's seed.
    """

    corpus: str = "sotu"
    tokenizer: str = "bpe-1024"
    order: Literal["shuffled", "streams"] = "shuffled"
    seed: int = 0

    @model_validator(mode="after")
    def _tokenizer_is_known(self) -> DataConfig:
        tokenizer_vocabulary(self.tokenizer)
        return self


class OptimConfig(Frozen):
    """The optimiser. ``clip`` bounds the global gradient norm (``null``: off); ``decay`` says what weight decay touches."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    lr: Positive
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Positive = 1e-8
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.01
    decay: Literal["all", "matrices"] = "all"
    clip: Positive | None = 1.0


class ScheduleConfig(Frozen):
    """Learning rate over the steps of a run; fractions are of the run's steps, ``floor`` is of the peak rate."""

    name: Literal["cosine", "inverse_sqrt", "linear", "constant", "wsd"] = "cosine"
    warmup: Fraction = 0.1
    floor: Fraction = 0.1
    decay: Fraction = 0.2

    @model_validator(mode="after")
    def _phases_fit(self) -> ScheduleConfig:
        if self.name == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} of a wsd schedule add up to more than 1")
        return self


class BudgetConfig(Frozen):
    """What ends a run: exactly one of FLOPs, tokens, or tokens per parameter (all parameters)."""

    flops: Count | None = None
    tokens: Count | None = None
    tokens_per_param: Positive | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> BudgetConfig:
        given = [name for name in ("flops", "tokens", "tokens_per_param") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of flops, tokens, tokens_per_param; got {', '.join(given) or 'none'}")
        return self


class RunConfig(Frozen):
    """One training run, fully resolved. ``arch`` is the label under which analyses group runs.

    ``nonfinite`` says what a step with a loss or gradient that is not finite does: ``abort`` ends the run as diverged, ``skip``
    leaves the step out, up to ``max_skips`` times in a run.
    """

    arch: str = Field(min_length=1, pattern=r"^[^/\\\x00-\x1f]+$")  # it becomes part of a folder's name
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig = ScheduleConfig()
    budget: BudgetConfig
    batch: Count = 64
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    nonfinite: Literal["abort", "skip"] = "abort"
    max_skips: Count = 10

    # Names that were given before these keys existed stay: at their defaults they are not spelt out.
    keys_of_later: ClassVar[frozenset[str]] = frozenset({"nonfinite", "max_skips"})

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> RunConfig:
        vocab = tokenizer_vocabulary(self.data.tokenizer)
        if self.model.vocab != vocab:
            raise ValueError(f"model.vocab {self.model.vocab} differs from tokenizer {self.data.tokenizer}'s {vocab}")
        if isinstance(self.model, LstmConfig) and self.model.carry_state and self.data.order != "streams":
            raise ValueError(
                "carry_state needs data.order: streams, because shuffled windows do not continue each other"
            )
        return self

    def digest(self, data_fingerprint: str) -> str:
        """The run's name: 16 hex digits of the sha256 of the canonical config and the data's fingerprint."""
        return hashlib.sha256(f"{canonical_json(self)}\n{data_fingerprint}".encode()).hexdigest()[:16]


def canonical_json(config: Frozen) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal configs give equal bytes."""
    values = config.model_dump(mode="json")
    for key in config.keys_of_later:
        if values[key] == type(config).model_fields[key].default:
            del values[key]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


CODE_VARIABLE = "ALGOPROG_CODE"
"""Environment variable with the Python files that may be executed; worker processes inherit it."""


def allow_code(file: str | Path) -> None:
    """The user has named this Python file: it may be executed, here and in the processes that this one starts."""
    known = [part for part in os.environ.get(CODE_VARIABLE, "").split(os.pathsep) if part]
    os.environ[CODE_VARIABLE] = os.pathsep.join(dict.fromkeys([*known, str(Path(file).resolve())]))


def code_allowed(file: str | Path) -> bool:
    """Whether :func:`allow_code` has named this file. A config never allows anything by itself."""
    return str(Path(file).resolve()) in os.environ.get(CODE_VARIABLE, "").split(os.pathsep)


MAX_VOCABULARY = 2**32


def tokenizer_vocabulary(name: str) -> int:
    """Size of the vocabulary that a tokenizer name promises, the end-of-text token included.

    Raises:
        InputError: the name is neither ``gpt2`` nor ``bpe-SIZE``, or the size does not fit the token type.
    """
    if name == "gpt2":
        return 50257
    match = re.fullmatch(r"bpe-(\d+)", name)
    if match is None:
        raise InputError("unknown tokenizer", got=name, expected="gpt2 or bpe-SIZE, for example bpe-1024")
    size = int(match[1])
    if not 257 <= size <= MAX_VOCABULARY:
        raise InputError(
            f"vocabulary of tokenizer {name} is out of range",
            got=size,
            expected="257 (256 bytes and end of text) to 2^32, the largest token type",
        )
    return size


ConfigT = TypeVar("ConfigT", bound=Frozen)


def parse(cls: type[ConfigT], values: object, where: object) -> ConfigT:
    """Validate ``values`` as ``cls``; the first problem becomes one :class:`InputError` that names the nearest key."""
    try:
        return cls.model_validate(values)
    except pydantic.ValidationError as error:
        raise _explain(cls, error, where) from None


def _explain(cls: type[Frozen], error: pydantic.ValidationError, where: object) -> InputError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in MODEL_FAMILIES]
    key = ".".join(path) or "config"
    if first["type"] == "extra_forbidden":
        return unknown_key(path[-1], _keys_at(cls, first["loc"][:-1]), where=where, path=key)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return InputError(f"{key}: {message}" if path else message, where=where)
    got = None if first["type"] == "missing" else first["input"]
    return InputError(f"{key}: {message[:1].lower()}{message[1:]}", where=where, got=got)


def _keys_at(cls: type[Frozen], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the config class that a validation error's location points into."""
    for part in loc:
        if part in cls.model_fields:
            options = [cls.model_fields[part].annotation, *get_args(cls.model_fields[part].annotation)]
            found = [o for o in options if isinstance(o, type) and issubclass(o, Frozen)]
            cls = found[0] if found else cls
        elif part in MODEL_FAMILIES:
            cls = MODEL_FAMILIES[str(part)]
    return list(cls.model_fields)


def unknown_key(key: str, known: list[str], *, where: object, path: str | None = None, kind: str = "key") -> InputError:
    """The error for a name that is not in ``known``, with the nearest one that is."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    expected = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return InputError(f"unknown {kind} {path or key!r}", where=where, remedy=expected)


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file safely.

    Raises:
        InputError: the file is missing, unreadable, not UTF-8, or not YAML.
    """
    path = Path(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as UTF-8 text: {error}", where=path) from None
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=path) from None
    except (RecursionError, ValueError) as error:  # nested too deeply; or a date or number that cannot be one
        raise InputError(f"not valid YAML: {error}", where=path) from None
