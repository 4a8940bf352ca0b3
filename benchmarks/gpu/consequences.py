"""Prints what follows from the rows: what is there, predictions against measurements, and the tables that decide.

Rows taken on a CPU or at tiny sizes only show that the scripts run; they are left out. Where a key was measured more than
once, the newest row counts.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rows
from predictions import predict

SCRIPTS = ("ceilings", "lstm_baseline", "head", "step", "counters", "memory_sanity")
EXPLAIN = 1.4  # a result further off than this is explained before anything is built on it
Row = Mapping[str, Any]


def load(folder: Path) -> list[Row]:
    """The newest GPU row of every (script, device, key), in the order of the scripts."""
    newest: dict[tuple[str, str, str], Row] = {}
    for script in SCRIPTS:
        for row in rows.RowFile(folder / f"{script}.jsonl").rows:
            if row["device"]["name"] == "cpu" or row["tiny"]:
                continue
            at = (script, row["device"]["name"], rows.canonical(row["key"]))
            if at not in newest or newest[at]["utc"] <= row["utc"]:
                newest[at] = row
    return list(newest.values())


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(line) + " |" for line in body)])


def coverage(found: Sequence[Row], device: str) -> str:
    """Per script and part: rows wanted and rows there, by status."""
    body = []
    for script in SCRIPTS:
        wanted = Counter(case.part for case in importlib.import_module(script).cases(False))
        for part, n in wanted.items():
            there = Counter(r["status"] for r in found if (r["script"], r["part"]) == (script, part) and _on(r, device))
            missing = n - sum(there.values())
            body.append([script, part, str(n), *(str(there[s]) for s in STATUSES), str(missing)])
    return table(["script", "part", "wanted", *STATUSES, "missing"], body)


STATUSES = ("measured", "answered", "inaccurate", "unsupported", "failed")


def _on(row: Row, device: str) -> bool:
    return bool(row["device"]["name"] == device)


def verdict(median: float, low: float, high: float | None) -> str:
    """How a measurement lies to a prediction."""
    if median < low:
        return f"{low / median:.2f} x faster" + (", explain" if low / median > EXPLAIN else "")
    if high is None:
        return f"{median / low:.2f} x the floor"
    if median <= high:
        return "inside"
    return f"{median / high:.2f} x slower" + (", explain" if median / high > EXPLAIN else "")


def against_predictions(found: Sequence[Row]) -> str:
    """Every measured row for which a prediction was made."""
    body = []
    for row in found:
        made = predict(row["script"], row["key"])
        if made is None or row["median_s"] is None:
            continue
        expected = f"{made.low * 1e6:.4g}" + (f" to {made.high * 1e6:.4g}" if made.high is not None else " or more")
        measured = f"{row['median_s'] * 1e6:.4g} (IQR {row['iqr_s'] * 1e6:.2g}, n {row['n']})"
        named = " ".join(f"{k}={v}" for k, v in row["key"].items())
        body.append([named, expected, measured, verdict(row["median_s"], made.low, made.high), made.formula])
    return table(["row", "predicted us", "measured us", "verdict", "prediction"], body) if body else "no rows"


def winners(entries: Sequence[Row]) -> list[str]:
    """The fastest variant and all that differ from it by no more than the larger interquartile range."""
    best = min(entries, key=lambda r: r["median_s"])
    return [
        r["key"]["variant"]
        for r in sorted(entries, key=lambda r: r["median_s"])
        if r["median_s"] - best["median_s"] <= max(r["iqr_s"], best["iqr_s"]) or r is best
    ]


def crossover(found: Sequence[Row]) -> str:
    """Head kernels by width: ns per token, the winner, and the widths between which the winner changes."""
    heads = [r for r in found if r["script"] == "head" and r["key"]["pass"] == "both"]
    blocks = []
    for V, N in sorted({(r["key"]["V"], r["key"]["N"]) for r in heads}, reverse=True):
        here = [r for r in heads if (r["key"]["V"], r["key"]["N"]) == (V, N)]
        variants = list(dict.fromkeys(r["key"]["variant"] for r in here))
        body, best = [], []
        for d in sorted({r["key"]["d"] for r in here}):
            at = {r["key"]["variant"]: r for r in here if r["key"]["d"] == d}
            timed = [r for r in at.values() if r["median_s"] is not None]
            won = winners(timed) if timed else []
            best.append((d, won))
            body.append([str(d), *(_ns(at.get(v), N) for v in variants), " = ".join(won) or "none"])
        changes = [
            f"between {a} and {b}: {x[0]} -> {y[0]}"
            for (a, x), (b, y) in zip(best, best[1:], strict=False)
            if x and y and not set(x) & set(y)
        ]
        title = f"V = {V}, N = {N}, ns per token, forward and backward"
        blocks.append(
            f"{title}\n\n{table(['d', *variants, 'fastest'], body)}\n\ncrossover: {'; '.join(changes) or 'none'}"
        )
    return "\n\n".join(blocks) or "no rows"


def _ns(row: Row | None, N: int) -> str:
    if row is None:
        return "missing"
    return str(row["status"]) if row["median_s"] is None else f"{row['median_s'] / N * 1e9:.1f}"


def lstm(found: Sequence[Row]) -> str:
    """Microseconds per step of nn.LSTM by type, one layer, and of the best sketch, with its gain over bf16 nn.LSTM."""
    one = [r for r in found if r["script"] == "lstm_baseline" and r["key"]["layers"] == 1 and r["median_s"] is not None]
    body = []
    for place in sorted({(r["key"]["pass"], r["key"]["T"], r["key"]["H"], r["key"]["B"]) for r in one}):
        at = [r for r in one if (r["key"]["pass"], r["key"]["T"], r["key"]["H"], r["key"]["B"]) == place]
        nn = {r["key"]["dtype"]: r for r in at if r["key"]["op"] == "nn.LSTM"}
        sketches = [
            r for r in at if r["key"]["op"] != "nn.LSTM" and r["key"]["dtype"] == "bf16" and r["key"]["input_product"]
        ]
        line = [str(v) for v in place] + [_us(nn.get(dtype), place[1]) for dtype in ("bf16", "fp16", "tf32", "fp32")]
        if sketches:
            best = min(sketches, key=lambda r: r["median_s"])
            gain = f"{nn['bf16']['median_s'] / best['median_s']:.2f}" if "bf16" in nn else "no bf16 row"
            line += [best["key"]["op"], _us(best, place[1]), gain]
        else:
            line += ["none", "", ""]
        body.append(line)
    head = ["pass", "T", "H", "B", "bf16", "fp16", "tf32", "fp32", "best sketch", "us per step", "gain over bf16"]
    return table(head, body) if body else "no rows"


def _us(row: Row | None, T: int) -> str:
    return "" if row is None else f"{row['median_s'] / T * 1e6:.3g}"


def streams(found: Sequence[Row]) -> str:
    """Total tokens per second of several captured runs over that of one."""
    runs = [r for r in found if r["script"] == "step" and r["key"]["mode"] == "streams"]
    body = []
    for arch, width in sorted({(r["key"]["arch"], r["key"]["width"]) for r in runs}):
        at = {r["key"]["runs"]: r for r in runs if (r["key"]["arch"], r["key"]["width"]) == (arch, width)}
        rate = {n: r["speed"]["tokens_per_s"] for n, r in at.items() if r["speed"] is not None}
        cells = []
        for n in (1, 2, 4, 8):
            if n in rate:
                cells.append(
                    f"{rate[n] / 1e6:.2f} M" + (f" ({rate[n] / rate[1]:.2f} x)" if 1 in rate and n > 1 else "")
                )
            else:
                cells.append(str(at[n]["reason"])[:60] if n in at else "missing")
        body.append([arch, str(width), *cells])
    return table(["arch", "width", "1 run", "2 runs", "4 runs", "8 runs"], body) if body else "no rows"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command-line entry: prints Markdown."""
    parser = argparse.ArgumentParser("consequences.py", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="folder of the rows")
    folder = parser.parse_args(arguments).results
    if not folder.is_dir():
        print(f"consequences.py: {folder}: no such folder; run the scripts on a GPU first", file=sys.stderr)
        return 2
    found = load(folder)
    devices = sorted({row["device"]["name"] for row in found})
    if not devices:
        print(
            f"{folder} holds no row from a GPU: nothing has been measured, and every prediction is still a prediction"
        )
    for device in devices:
        here = [row for row in found if _on(row, device)]
        print(f"\n# {device}\n\n## Rows\n\n{coverage(here, device)}")
        print(f"\n## Head: crossover by width\n\n{crossover(here)}")
        print(f"\n## LSTM, microseconds per step\n\n{lstm(here)}")
        print(f"\n## Several captured runs, total tokens per second\n\n{streams(here)}")
        print(f"\n## Predictions against measurements\n\n{against_predictions(here)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
