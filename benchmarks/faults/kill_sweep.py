"""kill -9 at random moments over a sweep of twelve runs, to the driver or to one of its workers, until the sweep is whole.

    python benchmarks/faults/kill_sweep.py --kills 200

A sweep that is whole is compared with an undisturbed one, bit for bit, and a new one is begun until all kills are spent. After
every end of a driver: what had finished is still there with the same loss, and the store verifies. One driver in ten is
killed while it starts; otherwise kills wait until workers exist, and then strike the driver or a worker after a random time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.faults import sweeps
from benchmarks.faults.corpora import environment, small_corpus, small_tokens, write_sweep
from benchmarks.faults.rows import write_row

DRIVER_SHARE = 0.3
EARLY_SHARE = 0.1
WANTED = 200


@dataclass
class Tally:
    """Counts over all sweeps, and what went wrong, one line each."""

    driver_kills: int = 0
    worker_kills: int = 0
    starts: int = 0
    sweeps: int = 0
    lost: int = 0
    repeated: int = 0
    different: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Of both kinds."""
        return self.driver_kills + self.worker_kills

    @property
    def failures(self) -> int:
        """Finished runs lost or repeated, sweeps that differ, and everything else that was wrong."""
        return self.lost + self.repeated + self.different + len(self.wrong)


class Killer:
    """Starts sweeps of one file and kills at random; ``tally`` is what came of it."""

    def __init__(
        self, file: Path, cache: Path, scratch: Path, reference: dict[str, Any], longest_wait_s: float, seed: int = 0
    ) -> None:
        self.file, self.scratch, self.reference, self.longest_wait_s = file, scratch, reference, longest_wait_s
        self.environment = environment(cache)
        self.draw = random.Random(seed)
        self.tally = Tally()
        self.began = time.monotonic()

    def run(self, kills: int, limit_s: float = float("inf")) -> Tally:
        """One sweep after another until ``kills`` or the time are spent; the last one is completed, too."""
        self.kills, self.until = kills, self.began + limit_s
        while self._more():
            self._one_sweep(self.scratch / f"sweep-{self.tally.sweeps}")
        return self.tally

    def _more(self) -> bool:
        return self.tally.kills < self.kills and time.monotonic() < self.until

    def _one_sweep(self, out: Path) -> None:
        known: dict[str, float | None] = {}
        while True:
            code = self._one_start(out)
            found = sweeps.finished(out)
            self.tally.lost += sum(found.get(run) != loss for run, loss in known.items())
            self.tally.wrong += sweeps.problems(out)
            known = found
            print(f"{time.monotonic() - self.began:6.0f} s, {len(known)} finished, {self.tally}", flush=True)
            if code == 0:
                break
        self.tally.sweeps += 1
        self.tally.repeated += sweeps.repeated(out)
        self.tally.different += sweeps.outcome(out) != self.reference

    def _one_start(self, out: Path) -> int:
        """One driver until it ends or is killed; its exit code."""
        driver = sweeps.start(self.file, out, self.environment)
        self.tally.starts += 1
        if self._more() and self.draw.random() < EARLY_SHARE:
            time.sleep(self.draw.uniform(0.0, 2.0))
            self._kill(driver, driver.pid)
        while driver.poll() is None and self._more():
            while driver.poll() is None and not sweeps.children(driver.pid):
                time.sleep(0.05)
            time.sleep(self.draw.uniform(0.0, self.longest_wait_s))
            workers = [] if self.draw.random() < DRIVER_SHARE else sweeps.children(driver.pid)
            self._kill(driver, self.draw.choice(workers) if workers else driver.pid)
        _, errors = driver.communicate(timeout=600)
        # A driver gives up after three workers in a row that were killed before they were ready.
        if driver.returncode not in (0, 1, -signal.SIGKILL) and "workers cannot start" not in errors:
            self.tally.wrong.append(f"exit code {driver.returncode}: {errors.splitlines()[-1:]}")
        return driver.returncode

    def _kill(self, driver: subprocess.Popen[str], victim: int) -> None:
        if driver.poll() is not None:
            return
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        if victim == driver.pid:
            driver.wait()
            self.tally.driver_kills += 1
        else:
            self.tally.worker_kills += 1


def prepare_reference(scratch: Path) -> tuple[Path, dict[str, Any]]:
    """The sweep file over prepared tokens, and the outcome of an undisturbed sweep."""
    small_tokens(scratch)
    file = write_sweep(scratch / "sweep.yaml", small_corpus(scratch / "texts"))
    code, errors = sweeps.finish(file, scratch / "reference", environment(scratch / "cache"))
    if code:
        raise RuntimeError(f"the undisturbed sweep failed: {errors}")
    return file, sweeps.outcome(scratch / "reference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=WANTED)
    parser.add_argument("--wait", type=float, default=6.0, help="longest time between kills, seconds")
    parser.add_argument("--minutes", type=float, default=60.0, help="no kills after this long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        file, reference = prepare_reference(Path(scratch))
        killer = Killer(file, Path(scratch) / "cache", Path(scratch), reference, arguments.wait)
        tally = killer.run(arguments.kills, 60 * arguments.minutes)
    print("\n".join(tally.wrong))
    write_row(
        name="kill-sweep",
        figure="kill -9 of driver or worker at random moments over a sweep of 12 runs",
        target=f"{WANTED} kills: 0 finished runs lost, 0 repeated, results bit for bit equal",
        measured=f"{tally.lost} lost, {tally.repeated} repeated, {tally.different} of {tally.sweeps} sweeps different; "
        f"{tally.driver_kills} kills of drivers, {tally.worker_kills} of workers, {tally.starts} starts",
        met=tally.failures == 0 and tally.kills >= WANTED, n=tally.kills, failures=tally.failures,
        command=f"python benchmarks/faults/kill_sweep.py --kills {arguments.kills} --wait {arguments.wait:g}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
