"""`algoprog bench step`: whole training steps of this package beside plain PyTorch, in the same minutes.

Ways are timed in rounds: in every round each way runs once, so that a machine that slows down slows all of them, and ratios
are taken within rounds. Before that the losses of the first steps are compared: a way that computes something else is named,
and has no ratio.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from algoprog.bench.anchors import ANCHORS
from algoprog.bench.children import Children, PeerFailed, Place
from algoprog.bench.spread import describe_ratio, quantile
from algoprog.config import InputError, RunConfig
from algoprog.flops.conventions import per_sequence
from algoprog.models import flop_facts
from algoprog.recipes import resolve
from algoprog.sweep.provenance import device_name, software
from algoprog.training.throughput import measure

Json = dict[str, Any]

ARCHITECTURES = ("modern", "retro", "lstm")
LOSS_STEPS = 5
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Relative, over the first steps: other orders of summation differ by 1e-6, another model by far more."""

SAMPLE_S = 0.3
FEWEST_STEPS, MOST_STEPS = 3, 150
WIDTHS = {"cpu": (32,), "cuda": (32, 64, 128, 256, 512, 1024)}
GPT2 = {"norm": "layernorm", "activation": "gelu", "position": "learned", "depth": 12, "heads": 12, "context": 1024}


@dataclass(frozen=True)
class Settings:
    """What to measure. ``widths`` empty: the device's default; ``compiled`` None: on a GPU only, since it takes minutes."""

    archs: tuple[str, ...] = ARCHITECTURES
    widths: tuple[int, ...] = ()
    engine: str = "torch"
    kernels: str = "auto"
    precision: str = "auto"
    tokenizer: str = "bpe-1024"
    batch: int = 8
    context: int = 128
    rounds: int = 7
    compiled: bool | None = None
    gpt2: bool = False


@dataclass(frozen=True)
class WayPlan:
    """A way by name: which code, in which processes, and in whose words."""

    name: str
    kind: str
    places: tuple[Place, ...]
    execution: str = "auto"
    about: str = ""


def plans(device: str, compiled: bool, cores: int) -> list[WayPlan]:
    """The ways for a device. The first is ours, the second its peer on equal terms: same process, same threads."""
    if device == "cuda":
        here = (Place(None, tuned=False),)
        found = [
            WayPlan("loop", "loop", here, "eager", "this package, operator by operator"),
            WayPlan("plain", "plain", here, about="plain PyTorch, eager"),
            WayPlan("loop, captured", "loop", here, "capture", "this package, the step replayed from a CUDA graph"),
        ]
    else:
        one = (Place(1, tuned=True),)
        workers = tuple(Place(1, tuned=True, number=n) for n in range(cores))
        here = one
        found = [
            WayPlan("loop", "loop", one, about="this package, one process of one thread"),
            WayPlan("plain", "plain", one, about="plain PyTorch, the same process, thread and allocator"),
            WayPlan(
                "sweep", "loop", workers, about=f"this package as a sweep runs it, {cores} processes of one thread"
            ),
            WayPlan(
                "plain, defaults", "plain", (Place(None, tuned=False),), about="plain PyTorch as it comes, one process"
            ),
        ]
    if compiled:
        found.append(WayPlan("loop, compiled", "loop", here, "compile", "this package with torch.compile"))
        found.append(WayPlan("plain, compiled", "compiled", here, about="plain PyTorch with torch.compile"))
    return found


def step(settings: Settings) -> Json:
    """Measure every architecture and width; returns ``{"device", "cores", "load", "utc", "provenance", "rows", "parts",
    "anchors"}``.

    Raises:
        InputError: an option is out of range, or the package's own loop cannot run the shape.
    """
    import torch

    if not 1 <= settings.rounds <= 100:
        raise InputError("no such number of rounds", where="--rounds", got=settings.rounds, expected="1 to 100")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    load = _load()
    rows, parts = [], []
    with Children(settings.engine) as children:
        for config in _configs(settings, device):
            compiled = device == "cuda" if settings.compiled is None else settings.compiled
            chosen = plans(device, compiled, os.cpu_count() or 1)
            children.start([place for plan in chosen for place in plan.places])
            found, split = _Problem(config, settings, chosen, children).measure()
            rows += found
            parts.append(split)
            _tell(f"{config.arch} at width {config.model.width}: {len(found)} ways")
    return {
        "device": device_name(),
        "cores": os.cpu_count(),
        "load": {"before": load, "after": _load()},
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "provenance": software(),
        "rows": rows,
        "parts": parts,
        "anchors": list(ANCHORS),
    }


def _load() -> float | None:
    """Processes that want a core, averaged over the last minute; a busy machine widens every interval."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _configs(settings: Settings, device: str) -> list[RunConfig]:
    widths = settings.widths or WIDTHS[device]
    shape = {"batch": settings.batch, "model": {"context": settings.context}}
    found = [_config(settings, arch, width, shape) for width in widths for arch in settings.archs]
    if settings.gpt2:
        large = {"batch": 32 if device == "cuda" else 1, "model": GPT2}
        found.append(_config(settings, "modern", 768, large, "gpt2").model_copy(update={"arch": "gpt2-124M"}))
    return found


def _config(
    settings: Settings, arch: str, width: int, overrides: Mapping[str, Any], tokenizer: str | None = None
) -> RunConfig:
    from algoprog.config import BudgetConfig
    from algoprog.training.commands import resolve_precision

    return resolve(
        arch, width, BudgetConfig(tokens=2**40), data={"corpus": "random", "tokenizer": tokenizer or settings.tokenizer},
        lr=None, seed=0, precision=resolve_precision(settings.precision), overrides=overrides, where="bench step",
    )  # fmt: skip


class _Problem:
    """One config, measured in every way."""

    def __init__(self, config: RunConfig, settings: Settings, chosen: Sequence[WayPlan], children: Children) -> None:
        self.config, self.settings, self.chosen, self.children = config, settings, chosen, children
        self.problems: dict[str, str] = {}
        self.losses: dict[str, list[float]] = {}
        self.device = "cpu"

    def measure(self) -> tuple[list[Json], Json]:
        """Rows of all ways, and the parts of the first one's step."""
        for plan in self.chosen:
            self._open(plan)
        ours = self.chosen[0]
        if ours.name in self.problems:
            raise InputError(
                f"{self.config.arch} at width {self.config.model.width} cannot run here", got=self.problems[ours.name]
            )
        running = [plan for plan in self.chosen if plan.name not in self.problems]
        steps = {plan.name: self._steps(plan) for plan in running}
        samples: dict[str, list[list[Json]]] = {plan.name: [] for plan in running}
        for number in range(self.settings.rounds):
            for plan in running if number % 2 == 0 else running[::-1]:
                samples[plan.name].append(self._ask(plan, kind="run", steps=steps[plan.name]))
        split = self._parts(ours)
        for plan in running:
            self._ask(plan, kind="close")
        speeds = {name: [_speed(answers, self._tokens) for answers in rounds] for name, rounds in samples.items()}
        return [self._row(plan, samples, speeds) for plan in self.chosen], split

    @property
    def _tokens(self) -> int:
        tokens: int = self.config.batch * self.config.model.context
        return tokens

    def _ask(self, plan: WayPlan, **order: Any) -> list[Json]:
        return self.children.ask(plan.places, {**order, "name": plan.name})

    def _open(self, plan: WayPlan) -> None:
        order = {
            "kind": "open",
            "way": plan.kind,
            "config": self.config.model_dump(mode="json"),
            "kernels": self.settings.kernels,
            "execution": plan.execution,
        }
        try:
            self.device = self._ask(plan, **order)[0]["device"]
            self.losses[plan.name] = self._ask(plan, kind="losses", steps=LOSS_STEPS)[0]["losses"]
        except PeerFailed as error:
            self.problems[plan.name] = str(error)

    def _steps(self, plan: WayPlan) -> int:
        """Steps of a sample of about :data:`SAMPLE_S`."""
        short = self._ask(plan, kind="run", steps=FEWEST_STEPS)
        each: float = max(answer["seconds"] for answer in short) / FEWEST_STEPS
        return max(FEWEST_STEPS, min(MOST_STEPS, math.ceil(SAMPLE_S / each)))

    def _parts(self, plan: WayPlan) -> Json:
        """Seconds per part of the loop's step, in its first process."""
        order = {"kind": "parts", "name": plan.name, "rounds": self.settings.rounds}
        answer = self.children.ask(plan.places[:1], order)[0]
        parts: dict[str, float] = answer["parts"]
        bare, loop = parts.pop("bare"), parts.pop("loop")
        return {
            **self._problem(),
            "seconds_per_step": loop,
            "bare_seconds_per_step": bare,
            "parts": {**parts, "gaps": loop - sum(parts.values())},
            "loop_overhead": answer["overhead"]["median"],
            "loop_overhead_interval": answer["overhead"]["interval"],
            "method": f"least of {self.settings.rounds} rounds; gaps: the loop's step less all parts; loop_overhead: CPU "
            "seconds of the loop outside of what a bare step does over those inside, median of the rounds with a 95 % interval",
        }

    def _problem(self) -> Json:
        model = self.config.model
        return {
            "arch": self.config.arch,
            "width": model.width,
            "depth": model.depth,
            "vocab": model.vocab,
            "batch": self.config.batch,
            "context": model.context,
            "precision": self.config.precision,
            "flops_per_token": per_sequence(flop_facts(model))["causal_exact"] // model.context,
        }

    def _row(self, plan: WayPlan, samples: Mapping[str, list[list[Json]]], speeds: Mapping[str, list[float]]) -> Json:
        row: Json = {
            **self._problem(),
            "way": plan.name,
            "about": plan.about,
            "processes": len(plan.places),
            "threads": plan.places[0].threads,
            "tuned_allocator": plan.places[0].tuned,
            "execution": plan.execution,
            "device": self.device,
            "reason": self.problems.get(plan.name),
            **dict.fromkeys(("tokens_per_s", "iqr_tokens_per_s", "rounds", "mfu", "losses", "loss_difference")),
            **dict.fromkeys(("same_losses", "loop_over_this", "loop_over_this_cpu", "sweep_over_this")),
        }
        if row["reason"] is not None:
            return row
        own = speeds[plan.name]
        row |= {
            "tokens_per_s": quantile(own, 0.5),
            "iqr_tokens_per_s": quantile(own, 0.75) - quantile(own, 0.25),
            "rounds": len(own),
            "mfu": self._shares(quantile(own, 0.5), len(plan.places)),
            **self._compare_losses(plan.name),
        }
        if row["same_losses"]:
            row["loop_over_this"] = describe_ratio(speeds["loop"], own)
            if len(plan.places) == 1:
                cpu = {name: [_cpu(answers) for answers in samples[name]] for name in ("loop", plan.name)}
                row["loop_over_this_cpu"] = describe_ratio(cpu[plan.name], cpu["loop"])
            if "sweep" in speeds:
                row["sweep_over_this"] = describe_ratio(speeds["sweep"], own)
        return row

    def _shares(self, tokens_per_s: float, processes: int) -> Json | None:
        """MFU in the three definitions; None on a device whose peak is not known."""
        speed = measure(self.config, self.device, 1, 1, self._tokens / tokens_per_s)
        if processes != 1 or speed is None or speed.mfu_causal is None:
            return None
        names = ("mfu_causal", "mfu_full", "roofline_share", "peak_source")
        return {name: getattr(speed, name) for name in names}

    def _compare_losses(self, name: str) -> Json:
        """Largest relative difference of the first losses from the loop's."""
        ours, theirs = self.losses["loop"], self.losses[name]
        difference = max(abs(b / a - 1.0) for a, b in zip(ours, theirs, strict=True))
        same = difference <= LOSS_TOLERANCE[self.config.precision]
        return {"losses": theirs, "loss_difference": difference, "same_losses": same}


def _speed(answers: Sequence[Json], tokens_per_step: int) -> float:
    """Tokens per second of all processes of one round together."""
    return float(sum(answer["steps"] * tokens_per_step / answer["seconds"] for answer in answers))


def _cpu(answers: Sequence[Json]) -> float:
    """CPU seconds per step: what a busy machine changes least."""
    return float(answers[0]["cpu_seconds"] / answers[0]["steps"])
