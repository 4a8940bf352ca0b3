"""Fuzzed sweep files, tables of runs and stores through the commands that read them: no traceback, no hang, documented exits.

    python benchmarks/faults/fuzz.py --cases 10000

Cases come from Hypothesis: sweep files that are nearly right, nearly YAML or noise; tables that are nearly right, nearly CSV or
noise; stores with damaged bytes and stores with rows that nobody but an attacker would write. Commands run in this process;
the timing of shapes in ``plan``, which takes seconds and reads no input, is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algoprog.cli import app
from algoprog.sweep.store import FILE
from benchmarks.faults import store_session
from benchmarks.faults.rows import write_row

COMMANDS = typer.main.get_command(app)  # once: building it takes longer than most commands
EXIT_CODES = (0, 1, 2)
WANTED = 10_000
LIMIT_S = 20


class Hang(BaseException):
    """A command took longer than ``LIMIT_S``; no ``except Exception`` may swallow it."""


@dataclass(frozen=True)
class Verdict:
    """How a command ended: its exit code, and what was wrong with that, or None."""

    code: int
    wrong: str | None


def invoke(*arguments: str) -> Verdict:
    """Run a command in this process."""
    said, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with _alarm():
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
                COMMANDS.main(args=list(arguments), prog_name="algoprog")
        except SystemExit as end:
            code = end.code or 0
        except Hang:
            return Verdict(-1, "hang")
        except Exception as error:  # what a user would see as a traceback
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            return Verdict(1, f"traceback: {type(error).__name__} at {place}: {str(error)[:200]}")
    if code not in EXIT_CODES:
        return Verdict(-1, f"exit code {code}")
    if code == 2 and not errors.getvalue().strip():
        return Verdict(2, "bad input without a word")
    return Verdict(int(str(code)), None)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def quick() -> Iterator[None]:
    """Without the timing of shapes."""

    def cost(configs: list[Any], *_: object) -> list[dict[str, float]]:
        return [{"seconds_per_step": 0.01, "peak_memory_bytes": 1.0} for _ in configs]

    with mock.patch("algoprog.sweep.commands.time_shapes", cost):
        yield


# ---- cases

ODD_TEXT = st.text(max_size=12) | st.sampled_from(
    ["../../x", "<script>", "{{7*7}}", "a\x00b", "\ud800", "1e400", "NaN", "-0", "~"]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
    max_leaves=5,
)
GOOD_SWEEP: dict[str, Any] = {
    "name": "s", "data": {"corpus": "absent/", "tokenizer": "bpe-300"}, "settings": {"batch": 4, "model": {"context": 32}},
    "grids": [{"arch": ["modern", "lstm"], "width": [8, 16], "flops": ["1e8"], "lr": 0.01}], "compare": [["lstm", "modern"]],
}  # fmt: skip
SWEEP_PATHS = (
    ("name",), ("data",), ("data", "corpus"), ("data", "tokenizer"), ("data", "seed"), ("settings",), ("settings", "batch"),
    ("settings", "model"), ("settings", "model", "context"), ("settings", "model", "depth"), ("settings", "model", "heads"),
    ("settings", "optim"), ("settings", "schedule"), ("grids",), ("grids", 0), ("grids", 0, "arch"), ("grids", 0, "width"),
    ("grids", 0, "flops"), ("grids", 0, "lr"), ("grids", 0, "seed"), ("grids", 0, "lr_law"), ("grids", 0, "tokens"),
    ("compare",), ("compare", 0), ("zzz",),
)  # fmt: skip


def _with(values: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of nested ``values`` with another value at ``path``."""
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[path[-1]] = value
    return copy


def _yaml(values: Any) -> bytes:
    try:
        return yaml.safe_dump(values).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return repr(values).encode("utf-8", "surrogatepass")


SWEEPS = st.one_of(
    st.builds(lambda path, value: _yaml(_with(GOOD_SWEEP, path, value)), st.sampled_from(SWEEP_PATHS), ODD),
    ODD.map(_yaml),
    st.binary(max_size=200),
    st.builds(
        lambda at, junk: _yaml(GOOD_SWEEP)[:at] + junk + _yaml(GOOD_SWEEP)[at + 1 :],
        st.integers(0, 200),
        st.binary(max_size=3),
    ),
    st.sampled_from(
        [b"!!python/object/apply:os.system ['true']", b"a: &a [*a]", b"[" * 5000, b"? " * 2000, b"a: " * 3000]
    ),
)

HEADER = ["arch", "flops", "loss", "run", "params", "tokens"]
ODD_CELL = st.sampled_from(
    ["", "nan", "inf", "-1", "0", "1e400", "1e-400", "x", "1,5", '"', "\x00", "=1+1", "<script>", "２"]
)
CELL = st.one_of(st.floats(1e10, 1e14).map(repr), st.floats(2.0, 6.0).map(repr), ODD_CELL, st.text(max_size=5))


def _table(rows: list[list[str]], header: list[str]) -> bytes:
    return "\n".join(",".join(row) for row in [header, *rows]).encode("utf-8", "surrogatepass")


def _good_rows() -> list[list[str]]:
    law = {"a": (20.0, 0.08), "b": (25.0, 0.09)}
    return [
        [arch, f"{flops:g}", f"{1.9 + scale * flops**-power:.4f}", f"{arch}{i}", "100000", f"{flops / 6e5:.0f}"]
        for arch, (scale, power) in law.items()
        for i, flops in enumerate(10.0 ** (11 + 0.5 * k) for k in range(4))
    ]


def _damaged_rows(changes: list[tuple[int, int, str]]) -> bytes:
    rows = _good_rows()
    for row, column, cell in changes:
        rows[row][column] = cell
    return _table(rows, HEADER)


TABLES = st.one_of(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5), CELL), min_size=1, max_size=4).map(_damaged_rows),
    st.builds(_table, st.lists(st.lists(CELL, min_size=1, max_size=7), max_size=5), st.permutations(HEADER)),
    st.builds(
        _table, st.lists(st.lists(CELL, min_size=6, max_size=6), max_size=5), st.lists(CELL, min_size=1, max_size=7)
    ),
    ODD.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.lists(st.dictionaries(st.sampled_from(HEADER), ODD, max_size=6), max_size=4).map(
        lambda v: json.dumps(v).encode()
    ),
    st.binary(max_size=300),
    st.sampled_from(
        [b"PAR1" + b"\x00" * 40 + b"PAR1", b"[" * 5000, b"SQLite format 3\x00" + b"\x00" * 100, b'{"a":' * 5000]
    ),
)


@dataclass(frozen=True)
class StoreDamage:
    """Bytes to overwrite (place as a share of the file, value), and cells to overwrite (table, column, value)."""

    bytes_: list[tuple[float, int]] = field(default_factory=list)
    cells: list[tuple[str, str, Any]] = field(default_factory=list)


CELLS = {
    "runs": [
        "digest",
        "position",
        "arch",
        "width",
        "seed",
        "config",
        "params",
        "steps",
        "tokens",
        "flops",
        "state",
        "result",
    ],
    "attempts": ["digest", "n", "worker", "provenance", "started", "ended", "outcome", "message"],
    "metrics": ["digest", "step", "tokens", "flops", "loss", "grad_norm", "lr"],
    "meta": ["key", "value"],
}
ODD_SQL = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=8), st.binary(max_size=8), ODD.map(json.dumps),
    st.sampled_from(["[" * 3000, "{}", "[]", "null", "1e999", '{"loss": "x"}', "../../../tmp/x", "<script>alert(1)</script>"]),
)  # fmt: skip
CELL_DAMAGE = st.sampled_from([(table, column) for table, columns in CELLS.items() for column in columns]).flatmap(
    lambda place: st.tuples(st.just(place[0]), st.just(place[1]), ODD_SQL)
)
STORES = st.one_of(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20).map(
        lambda found: StoreDamage(bytes_=found)
    ),
    st.lists(CELL_DAMAGE, min_size=1, max_size=3).map(lambda found: StoreDamage(cells=found)),
)


def good_store(folder: Path) -> bytes:
    """The bytes of a whole store of eight finished runs."""
    with contextlib.redirect_stdout(io.StringIO()):
        store_session.live(folder)
    return (folder / FILE).read_bytes()


def _write_store(path: Path, good: bytes, damage: StoreDamage) -> None:
    data = bytearray(good)
    for share, value in damage.bytes_:
        data[int(share * len(data))] = value
    path.write_bytes(data)
    if damage.cells:
        with sqlite3.connect(path) as db:
            db.executescript(
                "DROP TRIGGER finished_runs_stay; PRAGMA ignore_check_constraints = ON; PRAGMA journal_mode = DELETE;"
            )
            for table, column, value in damage.cells:
                if isinstance(value, str):
                    value = value.encode("utf-8", "replace").decode()
                try:
                    db.execute(f"UPDATE {table} SET {column} = ?", (value,))
                except sqlite3.IntegrityError:
                    continue  # every row would have the same key, or none at all
        db.close()


# ---- running them


class Fuzzer:
    """Runs cases below ``scratch``; ``codes`` counts exit codes per command and ``wrong`` what should not have happened."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.codes: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.good = good_store(scratch / "good")
        self.out = scratch / "store"
        self.out.mkdir()

    def sweep_file(self, content: bytes) -> None:
        """A sweep file through ``plan``."""
        path = self.scratch / "sweep.yaml"
        path.write_bytes(content)
        self._take("plan", invoke("plan", str(path), "--precision", "fp32"))

    def table(self, content: bytes) -> None:
        """A table of runs through ``fit``, as JSON: what a program reads must be JSON."""
        path = self.scratch / "runs.csv"
        path.write_bytes(content)
        self._take("fit", invoke("fit", str(path), "--draws", "100", "--json"))

    def store(self, damage: StoreDamage) -> None:
        """A store through the commands that only read."""
        for leftover in self.out.iterdir():
            leftover.unlink()
        _write_store(self.out / FILE, self.good, damage)
        self._take("status", invoke("status", str(self.out)))
        self._take("status --verify", invoke("status", str(self.out), "--verify", "--json"))
        self._take("runs export", invoke("runs", "export", str(self.out)))

    def _take(self, name: str, verdict: Verdict) -> None:
        self.codes[f"{name}: {verdict.code}"] += 1
        if verdict.wrong:
            self.wrong[f"{name}: {verdict.wrong}"] += 1
            print(f"{name}: {verdict.wrong}", flush=True)


def run(cases: int, scratch: Path, start: int = 0) -> Fuzzer:
    """About ``cases`` cases, a third of each kind."""
    fuzzer = Fuzzer(scratch)
    kinds: list[tuple[Any, Callable[[Any], None]]] = [
        (SWEEPS, fuzzer.sweep_file), (TABLES, fuzzer.table), (STORES, fuzzer.store),
    ]  # fmt: skip
    with quick():
        for strategy, take in kinds:
            _all_cases(strategy, take, max(1, cases // len(kinds)), start)
    return fuzzer


def _all_cases(strategy: Any, take: Callable[[Any], None], cases: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: Any) -> None:
        take(case)

    each()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=WANTED)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        fuzzer = run(arguments.cases, Path(scratch), arguments.seed)
    commands, bad = sum(fuzzer.codes.values()), sum(fuzzer.wrong.values())
    for text, count in (*fuzzer.wrong.most_common(), *sorted(fuzzer.codes.items())):
        print(f"{count:6} {text}")
    write_row(
        name="fuzz",
        figure="fuzzed sweep files, tables and stores through plan, fit, status, status --verify and runs export",
        target=f"{WANTED:,} cases: no traceback, no hang ({LIMIT_S} s), exit codes 0, 1 or 2",
        measured=f"{bad} not so in {commands} commands over {arguments.cases} cases",
        met=bad == 0 and arguments.cases >= WANTED, n=commands, failures=bad,
        command=f"python benchmarks/faults/fuzz.py --cases {arguments.cases} --seed {arguments.seed}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
