"""An architecture from a user's file: ``--arch my.py:Model``.

The file defines a module class::

    class Model(nn.Module):
        def __init__(self, width: int, depth: int, vocab: int, context: int, **settings): ...
        def forward(self, tokens): ...        # [B, T] int64 -> logits [B, T, vocab], any floating type
        def flops(self, context): ...         # {component: {"forward": FLOPs, "backward": FLOPs}} of one sequence

Components are those of :mod:`algoprog.flops.count` (``attn_proj``, ``attn_scores_causal``, ``mlp``, ``recurrent``, ``scan``,
``router``, ``head``); FLOPs are exact integers. Before a run the file is loaded, one step of one sequence is watched, and the
products that really ran must add up to what ``flops`` says, forward and backward apart, ``scan`` aside, which no counter
knows. Position t may see tokens up to t and no others: that is tried, too.

Only files that the user has named on the command line are ever executed (:func:`algoprog.config.allow_code`): a sweep
file, a recipe or a store that names another one is refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprog.config import InputError, PluginConfig, code_allowed
from algoprog.flops import FlopCount
from algoprog.flops.count import MODEL_COMPONENTS
from algoprog.flops.dispatch import ProductCounter
from algoprog.kernels import REFERENCE, Operations

UNSEEN = ("scan",)
"""Components that the dispatch counter does not see as products."""


class Plugin(nn.Module):
    """A user's model behind the interface of ours."""

    component = "mlp"  # products of modules that declare nothing; only their sum is compared
    batched_component = "mlp"

    def __init__(
        self,
        config: PluginConfig,
        generator: torch.Generator | None,
        compute_dtype: torch.dtype = torch.float32,
        operations: Operations = REFERENCE,
    ) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        seed = 0 if generator is None else generator.initial_seed()
        with torch.random.fork_rng(devices=[]):  # their initialisation draws from the global generator
            torch.manual_seed(seed)
            self.inner = _construct(config)

    def forward(
        self, inputs: Tensor, targets: Tensor, state: None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """Sum of the loss in nats over the targets. inputs, targets: [B, T] int64, target -100 is not scored."""
        with torch.autocast(inputs.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32):
            logits = self.inner(inputs)
        wanted = (*inputs.shape, self.config.vocab)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise _error(self.config, "forward returns the wrong shape", got=got, expected=f"logits {list(wanted)}")
        flat = logits.reshape(-1, self.config.vocab).float()
        return F.cross_entropy(flat, targets.reshape(-1), reduction="sum", ignore_index=-100), None

    def flops(self, context: int) -> FlopCount:
        """What the user's ``flops`` says of one sequence.

        Raises:
            InputError: there is no such method, or it does not return a FLOP count.
        """
        return _declared(self.config, self.inner, context)


def check_plugin(config: PluginConfig) -> None:
    """Watch one step of one sequence: shape, FLOPs, finite loss and causality must be right.

    Raises:
        InputError: one line for whatever is wrong.
    """
    model = Plugin(config, torch.Generator().manual_seed(0))
    tokens = torch.randint(config.vocab, (1, config.context), generator=torch.Generator().manual_seed(0))
    with ProductCounter(model) as counter:
        try:
            loss, _ = model(tokens, tokens)
            loss.backward()
        except InputError:
            raise
        except Exception as error:
            raise _failed(config, "a training step", error) from None
    if not torch.isfinite(loss):
        raise _error(config, "the first loss is not finite", got=float(loss.detach()))
    _compare(config, model.inner, counter.count())
    _check_causal(config, model.inner, tokens)


def _compare(config: PluginConfig, inner: nn.Module, watched: FlopCount) -> None:
    forward, backward = (sum(side.values()) for side in (watched.forward, watched.backward))
    if not hasattr(inner, "flops"):
        remedy = f"a step of one sequence executes {forward} forward and {backward} backward"
        raise _error(config, "the class has no FLOP count", expected="a method flops(self, context)", remedy=remedy)
    said = _declared(config, inner, config.context)
    seen = tuple(name for name in MODEL_COMPONENTS if name not in UNSEEN)
    told = tuple(sum(side.get(name, 0) for name in seen) for side in (said.forward, said.backward))
    if told != (forward, backward):
        raise _error(
            config,
            f"flops({config.context}) is not what a step executes",
            got=f"{told[0]} forward and {told[1]} backward",
            expected=f"{forward} forward and {backward} backward",
        )


def _declared(config: PluginConfig, inner: Any, context: int) -> FlopCount:
    try:
        said = inner.flops(context)
    except AttributeError:
        raise _error(config, "the class has no FLOP count", expected="a method flops(self, context)") from None
    except Exception as error:
        raise _failed(config, f"flops({context})", error) from None
    if isinstance(said, FlopCount):
        return said
    try:
        sides = {side: {str(k): v[side] for k, v in said.items()} for side in ("forward", "backward")}
    except (AttributeError, KeyError, TypeError):
        shape = '{component: {"forward": int, "backward": int}}'
        raise _error(config, f"flops({context}) returns no FLOP count", got=repr(said)[:80], expected=shape) from None
    for name, value in (*sides["forward"].items(), *sides["backward"].items()):
        if name not in MODEL_COMPONENTS:
            expected = ", ".join(MODEL_COMPONENTS)
            raise _error(config, f"flops({context}) names an unknown component", got=name, expected=expected)
        if type(value) is not int or value < 0:
            raise _error(config, f"flops({context}): {name} is no FLOP count", got=repr(value), expected="an int >= 0")
    return FlopCount(sides["forward"], sides["backward"])


@torch.no_grad()
def _check_causal(config: PluginConfig, inner: nn.Module, tokens: Tensor) -> None:
    """Another last token must leave all earlier logits as they are."""
    if config.context < 2:
        return
    inner.eval()
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % config.vocab
    first, second = inner(tokens)[0, :-1], inner(other)[0, :-1]
    inner.train()
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-5):
        raise _error(
            config,
            "a logit depends on a later token",
            expected="position t sees tokens up to t",
            remedy="mask the rest",
        )


def _construct(config: PluginConfig) -> nn.Module:
    cls = _load(config)
    try:
        model = cls(
            width=config.width, depth=config.depth, vocab=config.vocab, context=config.context, **config.settings
        )
    except Exception as error:
        raise _failed(config, "the constructor", error) from None
    if not isinstance(model, nn.Module):
        raise _error(config, "not a torch.nn.Module", got=type(model).__name__)
    return model


def _load(config: PluginConfig) -> Any:
    path = Path(config.file).resolve()
    if not code_allowed(path):
        raise InputError(
            "a config wants to run this file, which the command line does not name",
            where=config.file,
            remedy=f"if you trust it, add --code {config.file}",
        )
    try:
        found_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=config.file) from None
    if found_sha256 != config.sha256:
        raise InputError(
            "the file has changed since this run was planned", where=config.file, got=found_sha256[:12],
            expected=config.sha256[:12], remedy="start again: the changed file makes other runs",
        )  # fmt: skip
    module = _execute(str(path), config.sha256, config.file)
    found = getattr(module, config.name, None)
    if found is None:
        classes = [
            name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise InputError(
            f"no class {config.name}", where=config.file, expected=", ".join(classes) or "a subclass of torch.nn.Module"
        )
    return found


@cache
def _execute(path: str, sha256: str, shown: str) -> Any:
    """The module of a file, once per process and content."""
    name = f"algoprog_plugin_{sha256[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", where=shown)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InputError(f"cannot be imported: {type(error).__name__}: {error}", where=shown) from None
    return module


def _failed(config: PluginConfig, what: str, error: Exception) -> InputError:
    line = next((frame.tb_lineno for frame in _frames(error) if _in_file(frame, config)), None)
    place = f" at line {line}" if line else ""
    return _error(config, f"{what} failed{place}: {type(error).__name__}: {error}")


def _frames(error: Exception) -> list[Any]:
    """Traceback entries, innermost first."""
    frames, at = [], error.__traceback__
    while at is not None:
        frames.append(at)
        at = at.tb_next
    return frames[::-1]


def _in_file(frame: Any, config: PluginConfig) -> bool:
    return bool(Path(frame.tb_frame.f_code.co_filename).resolve() == Path(config.file).resolve())


def _error(config: PluginConfig, what: str, **parts: Any) -> InputError:
    return InputError(what, where=f"{config.file}:{config.name}", **parts)


def facts_of(model: Plugin, config: PluginConfig) -> Mapping[str, Any]:
    """Parameters by role, for the conventions. Token tables are ``nn.Embedding`` of ``vocab`` rows; a model without a linear
    map to ``vocab`` outputs of its own uses the table for that, too."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tables = {id(e.weight): e.weight for e in embeddings if e.num_embeddings == config.vocab}
    others = {id(e.weight): e.weight for e in embeddings if e.num_embeddings != config.vocab}
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == config.vocab]
    tied = bool(tables) and all(id(head.weight) in tables for head in heads)
    table = sum(weight.numel() for weight in tables.values())
    return {
        "input_params": sum(w.numel() for w in others.values()) + (0 if tied else table),
        "table_params": table,
        "tied": tied,
    }
