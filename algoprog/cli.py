"""The command line: one thin function per command.

Tables for people go to stdout on success, one JSON object with ``--json``; everything else goes to stderr. Exit codes: 0
success, 2 bad input with one line, 75 stopped on request (the same command continues), 1 a fault.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from algoprog.config import InputError, allow_code
from algoprog.recipes import is_plugin

STOPPED = 75

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=(
    "Measure algorithmic progress in language models: train many small models, fit scaling laws, report gains."
))  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Corpora and tokens.")
runs_app = typer.Typer(no_args_is_help=True, help="The runs of a sweep.")
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")
bench_app = typer.Typer(no_args_is_help=True, help="Speed with accuracy, against peers.")
app.add_typer(bench_app, name="bench")

P = ParamSpec("P")
R = TypeVar("R")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the store, the report and logs.")]
Runs = Annotated[
    Path, typer.Argument(metavar="RUNS", help="A sweep's folder, or a CSV, Parquet or JSON file, as W&B exports.")
]
Map = Annotated[list[str] | None, typer.Option("--map", help="Rename a column of a file: THEIRS=OURS. Repeatable.")]
Unit = Annotated[list[str] | None, typer.Option("--unit", help="Unit of a column: flops=pflop-days. Repeatable.")]
Convention = Annotated[
    str, typer.Option("--flops", help="FLOP convention of a sweep's runs, as `algoprog flops` names them.")
]
Draws = Annotated[int, typer.Option(min=100, help="Bootstrap draws.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed.")]


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn bad input into one line and exit code 2, and an interruption into exit code 75."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            if not _is_input_error(error):
                raise
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except OSError as error:  # a disk that fills up or a folder that vanishes is a fault, but not one of ours
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("stopped; the same command continues where it stopped", file=sys.stderr)
            raise typer.Exit(STOPPED) from None

    return wrapped


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _is_input_error(error: ValueError) -> bool:
    from algoprog.scaling.errors import InputError as ScalingInputError

    return isinstance(error, InputError | ScalingInputError)


def _in_convention(renamings: list[str] | None, convention: str) -> list[str]:
    """A store has a column ``flops_NAME`` for every convention besides ``flops``, which is the default one."""
    chosen = [] if convention == "causal_exact" else [f"flops_{convention}=flops"]
    return [*(renamings or []), *chosen]


def _print_json(value: object) -> None:
    print(json.dumps(value, allow_nan=False))


@app.command()
@command
def quickstart(out: Out = Path("runs/quickstart"), as_json: Json = False, draws: Draws = 1000) -> None:
    """The main job on the embedded corpus: tokens, a sweep of three architectures, laws, gains, a report."""
    from algoprog import quickstart as main_job
    from algoprog.report import tables

    result = main_job.run(out, draws)
    _print_json(result.as_json()) if as_json else tables.print_quickstart(result)
    if not result.summary.complete:
        raise typer.Exit(1)


@data_app.command("prepare")
@command
def data_prepare(
    corpus: Annotated[
        str, typer.Argument(metavar="[CORPUS]", help="A name, a file, a folder, or a corpus YAML.")
    ] = "sotu",
    tokenizer: Annotated[str, typer.Option(help="gpt2 or bpe-SIZE.")] = "bpe-1024",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the document shuffle.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn a corpus into tokens with a fingerprint."""
    from algoprog.config import DataConfig, parse
    from algoprog.data.tokens import prepare
    from algoprog.report import tables

    config = parse(DataConfig, {"corpus": corpus, "tokenizer": tokenizer, "seed": seed}, "data prepare")
    summary = prepare(config).summary()
    _print_json(summary) if as_json else tables.print_mapping(f"tokens of {corpus}", summary)


@data_app.command("pack")
@command
def data_pack(
    corpus: Annotated[str, typer.Argument(metavar="[CORPUS]", help="As in `data prepare`.")] = "sotu",
    tokenizer: Annotated[str, typer.Option(help="gpt2 or bpe-SIZE.")] = "bpe-1024",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the document shuffle.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pieces.")] = Path("pack"),
    as_json: Json = False,
) -> None:
    """Prepared tokens as compressed pieces of at most 64 MiB with checksums, to carry to another machine."""
    from algoprog.config import DataConfig, parse
    from algoprog.data.pack import pack
    from algoprog.data.tokens import prepare
    from algoprog.report import tables

    config = parse(DataConfig, {"corpus": corpus, "tokenizer": tokenizer, "seed": seed}, "data pack")
    result = pack(prepare(config), out)
    _print_json(result) if as_json else tables.print_mapping(f"pack of {corpus}", result)


@data_app.command("unpack")
@command
def data_unpack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `data pack` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the tokens; default: the cache.")] = None,
    as_json: Json = False,
) -> None:
    """Check every piece and make the tokens that were packed, whole or not at all."""
    from algoprog.data.pack import unpack
    from algoprog.report import tables

    summary = unpack(folder, out).summary()
    _print_json(summary) if as_json else tables.print_mapping(f"tokens from {folder}", summary)


SweepFile = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped sweep.")]
Size = Annotated[str | None, typer.Option(help="Which size of a sweep that has several: cpu (default), gpu, paper.")]


def _allow(files: list[Path] | None) -> list[Path] | None:
    """Naming a Python file on the command line is what allows it to be executed."""
    for file in files or []:
        allow_code(file)
    return files


def _allow_arch(arch: str) -> str:
    if is_plugin(arch):
        allow_code(arch.rpartition(":")[0])
    return arch


Code = Annotated[
    list[Path] | None,
    typer.Option(callback=_allow, help="A Python file with an architecture, which configs may then run. Repeatable."),
]
Arch = Annotated[
    str,
    typer.Option(callback=_allow_arch, help="A preset, as modern, retro, lstm; a recipe FILE.yaml; or FILE.py:CLASS."),
]
Precision = Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU, fp32 on a CPU.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; default one per GPU, else one per core.")]
Execution = Annotated[
    str,
    typer.Option(help="How steps run: eager, compile, capture (CUDA graph), or auto: eager until proven otherwise."),
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads per worker.")]
SweepThreads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads per worker; without --workers and this, a CPU is calibrated.")
]


@app.command()
@command
def plan(
    sweep: SweepFile,
    size: Size = None,
    code: Code = None,
    precision: Precision = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """The runs of a sweep with exact FLOPs and estimated time and memory; nothing is started."""
    from algoprog.report import tables
    from algoprog.sweep import commands

    estimate = commands.plan(sweep, precision, workers, threads, size)
    _print_json(estimate) if as_json else tables.print_plan(estimate)


@app.command()
@command
def sweep(
    sweep: SweepFile,
    out: Out,
    size: Size = None,
    code: Code = None,
    executor: Annotated[str, typer.Option(help="Where runs are executed: local.")] = "local",
    precision: Precision = "auto",
    workers: Workers = None,
    threads: SweepThreads = None,
    per_gpu: Annotated[str, typer.Option(help="Runs at once in a worker: a number, or auto: as many as pay.")] = "1",
    execution: Execution = "auto",
    as_json: Json = False,
) -> None:
    """Run or resume a sweep; finished runs are never repeated."""
    from algoprog.report import tables
    from algoprog.report.predictions import predict_store
    from algoprog.sweep import commands

    summary = commands.sweep(sweep, out, executor, precision, workers, threads, size, predict_store, per_gpu, execution)
    _print_json(summary) if as_json else tables.print_mapping(f"sweep in {out}", summary)
    if not summary["complete"]:
        raise typer.Exit(1)


@app.command()
@command
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every row; exit 1 if one is bad.")] = False,
    as_json: Json = False,
) -> None:
    """What is done, running, failed and left in a sweep's folder."""
    from algoprog.report import tables
    from algoprog.sweep import commands

    if verify:
        found = commands.verify_store(folder)
        _print_json(found) if as_json else tables.print_verification(found)
        if found["problems"]:
            raise typer.Exit(1)
        return
    state = commands.status(folder)
    _print_json(state) if as_json else tables.print_status(state)


@runs_app.command("export")
@command
def runs_export(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    format: Annotated[str, typer.Option(help="csv or parquet.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="Default: runs.csv or runs.parquet in DIR.")] = None,
    flops: Annotated[str, typer.Option(help="Convention of the column flops; see `algoprog flops`.")] = "causal_exact",
    as_json: Json = False,
) -> None:
    """The store as a table, one row per finished run."""
    from algoprog.sweep import commands

    exported = commands.export(folder, format, output, flops)
    _print_json(exported) if as_json else print(f"{exported['rows']} runs written to {exported['file']}")


@app.command()
@command
def train(
    arch: Arch = "modern",
    code: Code = None,
    width: Annotated[int, typer.Option(help="Hidden dimension.")] = 64,
    flops: Annotated[str | None, typer.Option(help="Budget in training FLOPs, for example 1e13.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Budget in tokens.")] = None,
    tokens_per_param: Annotated[str | None, typer.Option(help="Budget in tokens per parameter (default 20).")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default: the preset's law.")] = None,
    seed: Seed = 0,
    corpus: Annotated[str, typer.Option(help="As in `data prepare`.")] = "sotu",
    tokenizer: Annotated[str, typer.Option(help="gpt2 or bpe-SIZE.")] = "bpe-1024",
    precision: Precision = "auto",
    engine: Annotated[str | None, typer.Option(help="torch (default) or deepspeed (default with --deepspeed).")] = None,
    deepspeed: Annotated[
        str | None, typer.Option(help="Settings for DeepSpeed: a JSON file, or zero0, zero1, zero2, zero3 ...")
    ] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Rows per rank at once; default: all of its rows.")] = None,
    halve: Annotated[
        bool, typer.Option("--halve-micro-batch", help="Out of memory: go on with half the rows at once, same batch.")
    ] = False,
    deterministic: Annotated[
        bool | None, typer.Option(help="Only operations that repeat their bits; default: yes on a CPU, no on a GPU.")
    ] = None,
    recompute: Annotated[
        str, typer.Option(help="none, or blocks: their activations are formed again in the backward pass.")
    ] = "none",
    kernels: Annotated[
        str,
        typer.Option(help="reference, fused, cpu (fewer passes, fp32), or auto: fused where they can run."),
    ] = "auto",
    execution: Execution = "auto",
    out: Annotated[Path | None, typer.Option(help="Default: runs/ARCH-WIDTH-NAME.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any config key: model.depth=4. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train one run; under `deepspeed` or `torchrun` the batch is shared by all ranks."""
    from algoprog.report import tables
    from algoprog.training import commands

    budget = {"flops": flops, "tokens": tokens, "tokens_per_param": tokens_per_param}
    data = {"corpus": corpus, "tokenizer": tokenizer}
    config = commands.configure(arch, width, budget, data, lr, seed, precision, settings or [])
    record = commands.train(
        config, engine, out, kernels, deepspeed, micro_batch, recompute, deterministic, execution, halve
    )
    if record is not None:
        _print_json(record) if as_json else tables.print_run(record)


@app.command("flops")
@command
def count_flops(
    arch: Arch = "modern",
    code: Code = None,
    width: Annotated[int, typer.Option(help="Hidden dimension.")] = 64,
    seq: Annotated[int | None, typer.Option(help="Sequence length; default: the preset's.")] = None,
    vocab: Annotated[int, typer.Option(help="Vocabulary.")] = 50257,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any config key. Repeatable.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run one real step under every FLOP counter here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """FLOPs per token by component, in every convention, and as other counters see them."""
    from algoprog.report import tables_flops
    from algoprog.training import counting

    counted = counting.count(arch, width, seq, vocab, settings or [])
    rows = [row.as_json() for row in counting.compare(counted)] if compare else []
    result = counted.as_json()
    if as_json:
        _print_json({**result, "counters": rows} if compare else result)
        return
    tables_flops.print_flops(result, counting.describe_conventions())
    if compare:
        tables_flops.print_comparison(rows)


@app.command()
@command
def fit(
    runs: Runs,
    law: Annotated[
        str, typer.Option(help="frontier: a power law of compute per architecture; surface: L(params, tokens).")
    ] = "frontier",
    irreducible: Annotated[
        str | None, typer.Option(help="frontier: shared (default), profile, or a value in nats per token.")
    ] = None,
    points: Annotated[str | None, typer.Option(help="frontier: final (default), envelope, slices or surface.")] = None,
    loss: Annotated[str | None, typer.Option(help="surface: huber (default), lad or squared, of ln L.")] = None,
    delta: Annotated[float | None, typer.Option(help="surface: Huber's knee in ln L; default 1.345 sigma.")] = None,
    min_flops: Annotated[float, typer.Option(help="Leave out runs of less compute.")] = 0.0,
    max_flops: Annotated[float, typer.Option(help="Leave out runs of more compute.")] = float("inf"),
    draws: Draws = 1000,
    seed: Seed = 0,
    flops: Convention = "causal_exact",
    map: Map = None,
    unit: Unit = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures, as PNG and PDF.")] = None,
    as_json: Json = False,
) -> None:
    """A scaling law per architecture, with intervals."""
    from algoprog.report import tables
    from algoprog.scaling import commands

    analysis = commands.fit(
        runs, law, irreducible, draws, seed, _in_convention(map, flops), units=unit or [],
        loss=loss, delta=delta, rule=points, min_flops=min_flops, max_flops=max_flops,
    )  # fmt: skip
    _print_json(commands.fit_json(analysis)) if as_json else tables.print_fit(analysis)
    if out is not None:
        from algoprog.report.figures import write_figures
        from algoprog.report.figures_fit import fit_figures

        write_figures(fit_figures(analysis), out)


@app.command()
@command
def ceg(
    runs: Runs,
    old: Annotated[str, typer.Option("--from", help="The old architecture.")],
    new: Annotated[str, typer.Option("--to", help="The new architecture.")],
    at_loss: Annotated[float | None, typer.Option(help="Compare at this loss.")] = None,
    at_flops: Annotated[float | None, typer.Option(help="Compare at this compute.")] = None,
    anchor: Annotated[str, typer.Option(help="Whose compute --at-flops is: new or old.")] = "new",
    irreducible: Annotated[str, typer.Option(help="shared, or a value in nats per token.")] = "shared",
    draws: Draws = 1000,
    seed: Seed = 0,
    flops: Convention = "causal_exact",
    map: Map = None,
    unit: Unit = None,
    as_json: Json = False,
) -> None:
    """The compute-equivalent gain of one architecture over another, with its interval."""
    from algoprog.report import tables
    from algoprog.scaling import commands

    gain = commands.gain(
        runs,
        old,
        new,
        at_loss,
        at_flops,
        anchor,
        irreducible,
        draws,
        seed,
        _in_convention(map, flops),
        units=unit or [],
    )
    _print_json(commands.gain_json(gain)) if as_json else tables.print_gain(gain)


@app.command()
@command
def decompose(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A decomposition as YAML.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A shipped decomposition; default, without FILE: gundlach-2025.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Runs whose fitted laws replace the stated ones.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also draw figures into this folder, as PNG and PDF.")] = None,
    irreducible: Annotated[str, typer.Option(help="With --runs: shared, or a value in nats per token.")] = "shared",
    draws: Draws = 1000,
    seed: Seed = 0,
    flops: Convention = "causal_exact",
    map: Map = None,
    unit: Unit = None,
    as_json: Json = False,
) -> None:
    """Which stage of progress made which part of the gain: a study's arithmetic, and composed consistently."""
    from algoprog.config import read_yaml
    from algoprog.report import figures_decompose, tables_decompose
    from algoprog.scaling.decomposition import commands

    path = _decomposition_file(file, preset)
    found = commands.decomposition(
        read_yaml(path), path.name, runs, irreducible, draws, seed, _in_convention(map, flops), units=unit or []
    )
    if out is not None:
        figures_decompose.write_decomposition_figures(found, out)
    _print_json(commands.decomposition_json(found)) if as_json else tables_decompose.print_decomposition(found)


def _decomposition_file(file: Path | None, preset: str | None) -> Path:
    from algoprog.config import unknown_key
    from algoprog.recipes import CONFIGS

    if file is not None and preset is not None:
        raise InputError("two decompositions", got=f"{file} and --preset {preset}", expected="one of them")
    if file is not None:
        return file
    shipped = {path.stem: path for path in (CONFIGS / "decompose").glob("*.yaml")}
    name = "gundlach-2025" if preset is None else preset
    if name not in shipped:
        raise unknown_key(name, list(shipped), where="--preset", kind="decomposition")
    return shipped[name]


@app.command()
@command
def study(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUNS]...", help="Sweeps' folders or tables of runs of ours.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the figures into this folder, as PNG and PDF.")] = None,
    draws: Draws = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """The published numbers of arXiv 2511.21622 with their sources, and its figures beside the same of our runs."""
    from algoprog.report.study import compare_with_study
    from algoprog.report.study_table import print_study

    found = compare_with_study(runs or [], out, draws, seed)
    _print_json(found.as_json()) if as_json else print_study(found)


@app.command()
@command
def interactions(
    runs: Runs,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            help="A change: NAME=OLD,NEW, activation=gelu,swiglu. Repeatable. Default: those that the sweep declares."
        ),
    ] = None,
    law_runs: Annotated[Path | None, typer.Option(help="Runs of the reference law that losses are read on.")] = None,
    law_arch: Annotated[str | None, typer.Option(help="Its architecture among --law-runs.")] = None,
    exponent: Annotated[float | None, typer.Option(help="Instead: its exponent, with --irreducible VALUE.")] = None,
    at_loss: Annotated[
        str | None, typer.Option(help="Instead: cut training curves at this loss, or at the common one.")
    ] = None,
    irreducible: Annotated[str, typer.Option(help="Of the reference law: shared, or nats per token.")] = "shared",
    reference: Annotated[str, typer.Option(help="Single changes: undone from all new, or made from all old.")] = "new",
    order: Annotated[int | None, typer.Option(min=1, help="Highest interaction; default all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also draw the figure into this folder, as PNG and PDF.")] = None,
    draws: Draws = 1000,
    seed: Seed = 0,
    flops: Convention = "causal_exact",
    map: Map = None,
    unit: Unit = None,
    as_json: Json = False,
) -> None:
    """Do the gains of single changes multiply? Effects and interactions of a factorial ablation."""
    from algoprog.report import answers, tables_factorial
    from algoprog.report.figure_factorial import factorial_figure
    from algoprog.report.figures import write_figures
    from algoprog.scaling.interactions import commands

    if not factor:
        declared = answers.factors_of_store(runs)
        factor = [f"{name}={old},{new}" for name, (old, new) in declared.factors.items()]
        if law_runs is None and exponent is None and at_loss is None:
            law_runs, law_arch = runs, law_arch or declared.law_arch
    conversion = commands.Conversion(law_runs, law_arch, exponent, at_loss, irreducible)
    renamed = _in_convention(map, flops)
    found = commands.interactions(runs, factor, conversion, reference, order, draws, seed, renamed, units=unit or [])
    if out is not None:
        write_figures({"interactions": factorial_figure(found)}, out)
    _print_json(commands.interactions_json(found)) if as_json else tables_factorial.print_factorial(found)


@app.command()
@command
def breaks(
    runs: Runs,
    arch: Annotated[str, typer.Option(help="The architecture whose law is tested.")],
    tolerance: Annotated[float, typer.Option(help="Half-width in ln L that a prediction must beat to count.")] = 0.02,
    at_flops: Annotated[
        float | None, typer.Option(help="Also say whether the law is licensed at this compute.")
    ] = None,
    min_flops: Annotated[float, typer.Option(help="Leave out runs of less compute.")] = 0.0,
    max_flops: Annotated[float, typer.Option(help="Leave out runs of more compute.")] = float("inf"),
    out: Annotated[Path | None, typer.Option(help="Also draw figures into this folder, as PNG and PDF.")] = None,
    draws: Annotated[int, typer.Option(min=99, help="Simulated data sets.")] = 999,
    seed: Seed = 0,
    flops: Convention = "causal_exact",
    map: Map = None,
    unit: Unit = None,
    as_json: Json = False,
) -> None:
    """Is it one law? A test for a break in the exponent, and predictions from every cut."""
    from algoprog.report import figures_breaks, tables_breaks
    from algoprog.scaling.breakpoints import commands

    found = commands.breaks(
        runs, arch, tolerance, draws, seed, _in_convention(map, flops),
        units=unit or [], min_flops=min_flops, max_flops=max_flops, target_flops=at_flops,
    )  # fmt: skip
    if out is not None:
        figures_breaks.write_break_figures(found, out)
    _print_json(commands.breaks_json(found)) if as_json else tables_breaks.print_breaks(found)


@app.command()
@command
def power(
    gap: Annotated[float, typer.Option(help="Difference of the exponents, new minus old.")] = 0.01,
    decades: Annotated[float, typer.Option(help="Range of compute.")] = 3.0,
    sigma: Annotated[float, typer.Option(help="Noise of ln L.")] = 0.003,
    points: Annotated[int, typer.Option(help="Runs per architecture.")] = 8,
    flops_min: Annotated[float, typer.Option(help="Compute of the smallest runs.")] = 1e15,
    irreducible: Annotated[float, typer.Option(help="Irreducible loss, nats per token.")] = 1.9,
    reducible: Annotated[float, typer.Option(help="Loss above it in the middle of the range, old.")] = 2.6,
    reducible_new: Annotated[float, typer.Option(help="The same of the new architecture.")] = 2.2,
    alpha: Annotated[float, typer.Option(help="Exponent of the old architecture.")] = 0.065,
    refits: Annotated[int, typer.Option(min=20, help="Simulated studies of the check.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Also draw a figure into this folder, as PNG and PDF.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How many runs and decades show a gap between two exponents, and where to put them."""
    from algoprog.report import figures_breaks, tables_power
    from algoprog.scaling.planning.power import GapStudy
    from algoprog.scaling.planning.report import power_json, power_report

    study = GapStudy(gap, decades, sigma, points, flops_min, irreducible, reducible, reducible_new, alpha)
    found = power_report(study, refits, seed)
    if out is not None:
        figures_breaks.write_power_figure(found, out)
    _print_json(power_json(found)) if as_json else tables_power.print_power(found)


@app.command()
@command
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    draws: Draws = 1000,
    watch: Annotated[bool, typer.Option("--watch", help="Write it anew until the sweep is complete.")] = False,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page with interactive charts and figures, and the same figures as PNG and PDF."""
    from algoprog.report import page
    from algoprog.report.watch import watch_report

    written = watch_report(folder, draws) if watch else page.write_report(folder, draws)
    _print_json(written.as_json()) if as_json else print(f"report: {written.page}")


@app.command()
@command
def doctor(as_json: Json = False) -> None:
    """What this machine has: device, torch, triton, flash-attn, deepspeed, which kernels are usable, and why not."""
    from algoprog import doctor as machine
    from algoprog.report import tables_doctor

    found = machine.examine().as_json()
    _print_json(found) if as_json else tables_doctor.print_doctor(found)


@bench_app.command("kernels")
@command
def bench_kernels(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the rows; default benchmarks/results.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this long; the same command continues.")] = 9.0,
    part: Annotated[str | None, typer.Option(help="plain, compiled or adamw; default all.")] = None,
    as_json: Json = False,
) -> None:
    """The operations against eager PyTorch and peers; on a CPU the reference against eager, as a ratio."""
    from algoprog.bench.kernels import measure
    from algoprog.report import tables_bench

    found = measure(out, minutes, part)
    _print_json(found) if as_json else tables_bench.print_kernels(found)
    if not found["finished"]:
        raise typer.Exit(STOPPED)


@bench_app.command("step")
@command
def bench_step(
    arch: Annotated[list[str] | None, typer.Option(help="A preset; repeatable. Default modern, retro, lstm.")] = None,
    width: Annotated[
        list[int] | None, typer.Option(min=8, help="Repeatable. Default 32; on a GPU 32, 64, ... 1024.")
    ] = None,
    engine: Annotated[str, typer.Option(help="torch or deepspeed.")] = "torch",
    kernels: Annotated[
        str,
        typer.Option(help="reference, fused, cpu (fewer passes, fp32), or auto: fused where they can run."),
    ] = "auto",
    precision: Precision = "auto",
    tokenizer: Annotated[str, typer.Option(help="Its vocabulary counts: gpt2 or bpe-SIZE.")] = "bpe-1024",
    batch: Annotated[int, typer.Option(min=1, help="Sequences per step.")] = 8,
    seq: Annotated[int, typer.Option(min=1, help="Tokens per sequence.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Every way runs once per round.")] = 7,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="With torch.compile, too; default on a GPU only.")
    ] = None,
    gpt2: Annotated[bool, typer.Option("--gpt2", help="A GPT-2-size model, too, beside published figures.")] = False,
    as_json: Json = False,
) -> None:
    """Training steps per second against plain PyTorch, same losses, and where the time goes."""
    from algoprog.bench import step
    from algoprog.report import tables_bench

    found = step.step(
        step.Settings(
            archs=tuple(arch or step.ARCHITECTURES), widths=tuple(width or ()), engine=engine, kernels=kernels,
            precision=precision, tokenizer=tokenizer, batch=batch, context=seq, rounds=rounds, compiled=compiled, gpt2=gpt2,
        )
    )  # fmt: skip
    _print_json(found) if as_json else tables_bench.print_step(found)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the console script and of ``train.py``."""
    # Waiting threads must not spin: on a busy machine that costs a factor of ten. OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return app(arguments)


if __name__ == "__main__":
    main()
