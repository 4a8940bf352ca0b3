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

from algoprog.config import InputError

STOPPED = 75

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=(
    "Measure algorithmic progress in language models: train many small models, fit scaling laws, report gains."
))  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Corpora and tokens.")
runs_app = typer.Typer(no_args_is_help=True, help="The runs of a sweep.")
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")

P = ParamSpec("P")
R = TypeVar("R")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the store, the report and logs.")]
Runs = Annotated[Path, typer.Argument(metavar="RUNS", help="A sweep's folder, or a CSV or Parquet file.")]
Map = Annotated[list[str] | None, typer.Option("--map", help="Rename a column of a file: THEIRS=OURS. Repeatable.")]
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
        except KeyboardInterrupt:
            print("stopped; the same command continues where it stopped", file=sys.stderr)
            raise typer.Exit(STOPPED) from None

    return wrapped


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _is_input_error(error: ValueError) -> bool:
    from algoprog.scaling.errors import InputError as ScalingInputError

    return isinstance(error, InputError | ScalingInputError)


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


SweepFile = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped sweep.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU, fp32 on a CPU.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; default one per GPU, else one per core.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads per worker.")]


@app.command()
@command
def plan(
    sweep: SweepFile,
    precision: Precision = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """The runs of a sweep with exact FLOPs and estimated time and memory; nothing is started."""
    from algoprog.report import tables
    from algoprog.sweep import commands

    estimate = commands.plan(sweep, precision, workers, threads)
    _print_json(estimate) if as_json else tables.print_plan(estimate)


@app.command()
@command
def sweep(
    sweep: SweepFile,
    out: Out,
    executor: Annotated[str, typer.Option(help="Where runs are executed: local.")] = "local",
    precision: Precision = "auto",
    workers: Workers = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Run or resume a sweep; finished runs are never repeated."""
    from algoprog.report import tables
    from algoprog.sweep import commands

    summary = commands.sweep(sweep, out, executor, precision, workers, threads)
    _print_json(summary) if as_json else tables.print_mapping(f"sweep in {out}", summary)
    if not summary["complete"]:
        raise typer.Exit(1)


@app.command()
@command
def status(folder: Annotated[Path, typer.Argument(metavar="DIR")], as_json: Json = False) -> None:
    """What is done, running, failed and left in a sweep's folder."""
    from algoprog.report import tables
    from algoprog.sweep import commands

    state = commands.status(folder)
    _print_json(state) if as_json else tables.print_status(state)


@runs_app.command("export")
@command
def runs_export(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    format: Annotated[str, typer.Option(help="csv or parquet.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="Default: runs.csv or runs.parquet in DIR.")] = None,
    as_json: Json = False,
) -> None:
    """The store as a table, one row per finished run."""
    from algoprog.sweep import commands

    exported = commands.export(folder, format, output)
    _print_json(exported) if as_json else print(f"{exported['rows']} runs written to {exported['file']}")


@app.command()
@command
def train(
    arch: Annotated[str, typer.Option(help="A preset, for example modern, retro or lstm.")] = "modern",
    width: Annotated[int, typer.Option(help="Hidden dimension.")] = 64,
    flops: Annotated[str | None, typer.Option(help="Budget in training FLOPs, for example 1e13.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Budget in tokens.")] = None,
    tokens_per_param: Annotated[str | None, typer.Option(help="Budget in tokens per parameter (default 20).")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default: the preset's law.")] = None,
    seed: Seed = 0,
    corpus: Annotated[str, typer.Option(help="As in `data prepare`.")] = "sotu",
    tokenizer: Annotated[str, typer.Option(help="gpt2 or bpe-SIZE.")] = "bpe-1024",
    precision: Precision = "auto",
    engine: Annotated[str, typer.Option(help="torch or deepspeed.")] = "torch",
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
    record = commands.train(config, engine, out)
    if record is not None:
        _print_json(record) if as_json else tables.print_run(record)


@app.command()
@command
def fit(
    runs: Runs,
    law: Annotated[str, typer.Option(help="frontier: one power law per architecture over its frontier.")] = "frontier",
    irreducible: Annotated[str, typer.Option(help="shared, or a value in nats per token.")] = "shared",
    draws: Draws = 1000,
    seed: Seed = 0,
    map: Map = None,
    as_json: Json = False,
) -> None:
    """A scaling law per architecture, with intervals."""
    from algoprog.report import tables
    from algoprog.scaling import commands

    analysis = commands.fit(runs, law, irreducible, draws, seed, map or [])
    _print_json(commands.fit_json(analysis)) if as_json else tables.print_laws(analysis)


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
    map: Map = None,
    as_json: Json = False,
) -> None:
    """The compute-equivalent gain of one architecture over another, with its interval."""
    from algoprog.report import tables
    from algoprog.scaling import commands

    gain = commands.gain(runs, old, new, at_loss, at_flops, anchor, irreducible, draws, seed, map or [])
    _print_json(commands.gain_json(gain)) if as_json else tables.print_gain(gain)


@app.command()
@command
def report(folder: Annotated[Path, typer.Argument(metavar="DIR")], draws: Draws = 1000, as_json: Json = False) -> None:
    """One self-contained HTML page with figures, and the same figures as PNG and PDF."""
    from algoprog.report import page

    written = page.write_report(folder, draws)
    _print_json(written.as_json()) if as_json else print(f"report: {written.page}")


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the console script and of ``train.py``."""
    # Waiting threads must not spin: on a busy machine that costs a factor of ten. OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return app(arguments)


if __name__ == "__main__":
    main()
