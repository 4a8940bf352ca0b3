"""Write docs/reliability.md from the measured figures:  python benchmarks/faults/page.py"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.faults.rows import ROOT, read_rows

PAGE = ROOT / "docs" / "reliability.md"

HEAD = """# Reliability, measured

Every figure below was measured by the command beside it, which measures it again; it writes one JSON file into
`benchmarks/results/reliability`, and `python benchmarks/faults/page.py` writes this page from those files. `make faults` runs
all of `tests/faults`; the fast part of it is in `make test`.

"Not met" also stands where fewer cases were tried than the target asks for; "no target" where a figure is given for comparison.

| figure | target | measured | cases | met | command |
| --- | --- | --- | --- | --- | --- |
"""

TAIL = """
## What is meant

* **kill -9** ends processes, not the machine: what they had written stays in the system's cache. Torn writes are simulated by
  killing inside a write, after half of its bytes.
* **Store crashes and full disks**: a small library preloaded into the process (`benchmarks/faults/fault_shim.c`) counts every
  write, sync, truncation, creation, rename and removal below the output folder and makes the k-th one go wrong, in the driver
  and its workers alike. It needs a C compiler, not root; without one these tests are skipped.
* **Finished runs** are protected twice: statements leave them alone, and triggers in the SQLite file refuse to change or delete
  them, whoever asks. Each result is sealed with a sha256 over the run's name, its config and the result.
* **`algoprog status DIR --verify`** checks SQLite's integrity and foreign keys, every run's name against its config and data,
  every result against its seal, plan and state, and that metrics advance to the end of the plan. It only reads; it exits with 1
  if anything is wrong. Seals find damage, not forgery: whoever can write the file can write a seal.
* **Tokens**: files up to 256 MiB are hashed whole at open; of larger training files every block of 64 KiB is hashed before it
  is first read. One known block is hashed again at every 256th read. Stores prepared before blocks were kept are hashed whole.
* **Workers** die with their driver (Linux's death signal and the closing of their input), and tell it every two seconds how
  much CPU time their main thread has used. One that used none for ten minutes is killed, and its run tried once more elsewhere.
* **One process per run**: whoever trains a run holds a file lock on its checkpoints, a worker of a sweep like `algoprog train`
  (which locks its output folder, too). A second process is refused with one line that names the first one's number, machine and
  start; in a sweep that run alone fails, and the next start tries it again. The lock ends with its process.
* **A lost store**: results of finished runs are kept in `store.sqlite` and nowhere else; checkpoints are removed once a result
  is committed. A damaged file is refused with one line and exit code 2. If the file is gone or empty, a sweep warns in one line
  and begins anew: runs that had finished are trained again, others continue from their checkpoints. Nothing rebuilds results
  from the rest of the folder, so keep copies. `algoprog runs export DIR` writes what every analysis needs. A copy of
  `store.sqlite` continues the sweep; make it while no sweep runs (with `store.sqlite-wal` if there is one), or at any time with
  `sqlite3 store.sqlite ".backup COPY"`.
* **Several ranks** act as one: a loss or gradient that is not finite on one of them is met by all at that step, and a signal to
  one of them stops all with one checkpoint (`tests/faults/test_rank_faults.py`, two ranks of plain PyTorch).
* **When the store cannot be written** (disk full, folder gone or read-only), workers save a checkpoint if they can, the driver
  ends with one line and exit code 2, and the same command continues.
* **Clocks**: durations come from a steady clock; the wall clock only stamps the start of an attempt.
* **Files from others**: YAML is loaded safely, nothing is unpickled, no shell is called, archives unpack inside a folder, the
  report escapes every string (`tests/faults/test_security.py`). A config may name an architecture in a Python file, but only
  files that the command line names, too (`--arch FILE.py:CLASS`, `--code FILE.py`), are ever executed
  (`tests/models/test_plugin.py`).
* **Dependencies**: `make audit` asks `pip-audit` for known vulnerabilities where it is installed and reaches its data. Without,
  it checks that the pinned versions are installed and that every installed file has the sha256 of its package's record.
"""


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    lines = [_line(row) for row in rows]
    return HEAD + "\n".join(lines) + "\n" + _provenance(rows) + TAIL


def _line(row: Mapping[str, Any]) -> str:
    measured = f"{row['measured']} ({row['spread']})"
    cells = (
        row["figure"],
        row["target"],
        measured,
        f"{row['n']:,}",
        {True: "yes", False: "not met", None: "no target"}[row["met"]],
        f"`{row['command']}`",
    )
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _provenance(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the figures come from, each place once."""
    places: dict[str, list[str]] = {}
    for row in rows:
        found = row["provenance"]
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if name != "algoprog")
        place = f"{found['date']}, {found['processor']}, {found['cores']} cores, {found['platform']}, {versions}"
        places.setdefault(place, []).append(f"{row['name']} ({found['commit']})")
    return "".join(f"\n{place}. Commits: {', '.join(names)}.\n" for place, names in places.items())


def main() -> None:
    PAGE.write_text(render(read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
