"""The disk fills up at the k-th file operation of a whole sweep, driver and workers alike, and has room at the next start.

    python benchmarks/faults/disk_full_sweep.py --points 30

Every sweep meets the fault once, at another operation; after it the store verifies, what was finished is there, the driver has
said one line, and the same command completes the sweep with results equal to an undisturbed one, bit for bit.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.faults import sweeps
from benchmarks.faults.corpora import environment
from benchmarks.faults.kill_sweep import prepare_reference
from benchmarks.faults.rows import write_row
from benchmarks.faults.shim import Shim


@dataclass(frozen=True)
class Filled:
    """One sweep whose disk was full from operation ``at`` on: how its driver ended and what is not as it should be."""

    at: int
    code: int
    wrong: tuple[str, ...]


class Filler:
    """Sweeps of one file on a disk that fills up."""

    def __init__(self, shim: Shim, file: Path, cache: Path, scratch: Path, reference: dict[str, Any]) -> None:
        self.shim, self.file, self.scratch, self.reference = shim, file, scratch, reference
        self.plain = environment(cache)

    def count_operations(self) -> int:
        """File operations below the output folder in one undisturbed sweep."""
        out = self.scratch / "counted"
        sweeps.finish(self.file, out, self.plain | self.shim.environment(out, "full", 0))
        shutil.rmtree(out)
        return self.shim.operations()

    def one_point(self, at: int) -> Filled:
        """Fill the disk at operation ``at``, look, make room, complete."""
        out = self.scratch / f"full-{at}"
        code, errors = sweeps.finish(self.file, out, self.plain | self.shim.environment(out, "full", at))
        wrong = list(sweeps.problems(out))
        said = [line for line in errors.splitlines() if line.startswith("error: ")]
        if "Traceback" in errors or (code == 2 and len(said) != 1) or code not in (0, 1, 2):
            wrong.append(f"exit code {code}: {errors.splitlines()[-1:]}")
        known = sweeps.finished(out)
        again, errors = sweeps.finish(self.file, out, self.plain)
        if again:
            wrong.append(f"does not continue: exit code {again}: {errors.splitlines()[-1:]}")
        else:
            found = sweeps.finished(out)
            wrong += [f"{run} was lost" for run, loss in known.items() if found.get(run) != loss]
            wrong += [f"{sweeps.repeated(out)} runs repeated"] if sweeps.repeated(out) else []
            wrong += ["the results differ"] if sweeps.outcome(out) != self.reference else []
            wrong += sweeps.problems(out)
        shutil.rmtree(out, ignore_errors=True)
        return Filled(at, code, tuple(wrong))


def record(found: Sequence[Filled], total: int, points: int) -> None:
    """Write the figure of the points so far: each takes as long as two sweeps, and whoever stops early keeps what there is."""
    bad = sum(bool(point.wrong) for point in found)
    codes = [sum(point.code == code for point in found) for code in (2, 1, 0)]
    write_row(
        name="disk-full-sweep",
        figure=f"disk full from a file operation of a whole sweep on, driver and workers (evenly over {total} operations)",
        target="no torn store, one clear line, the same command completes it with equal results",
        measured=f"{bad} not so; {codes[0]} stopped with exit code 2, {codes[1]} with 1, {codes[2]} needed no more space",
        met=bad == 0, n=len(found), failures=bad, command=f"python benchmarks/faults/disk_full_sweep.py --points {points}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=30)
    points = parser.parse_args().points
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        file, reference = prepare_reference(scratch)
        filler = Filler(Shim.build(scratch / "shim"), file, scratch / "cache", scratch, reference)
        total = filler.count_operations()
        places = [1 + number * total // points for number in range(points)]
        random.Random(0).shuffle(places)  # a part of them covers the whole life of a sweep, too
        found: list[Filled] = []
        for at in places:
            found.append(filler.one_point(at))
            print(found[-1], flush=True)
            record(found, total, points)


if __name__ == "__main__":
    main()
