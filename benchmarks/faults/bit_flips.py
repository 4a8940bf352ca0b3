"""Single-bit flips in checkpoints: every one must be found, named and set aside, and the older checkpoint loaded.

Flips are drawn uniformly over the bits of all files of the newest of two checkpoints, manifest included::

    python benchmarks/faults/bit_flips.py --flips 1000
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algoprog.training.checkpoint import Checkpoints  # noqa: E402
from benchmarks.faults.checkpoint_states import same_state, small_state  # noqa: E402
from benchmarks.faults.rows import write_row  # noqa: E402

DIGEST = "0123456789abcdef"


def undetected_flips(folder: Path, flips: int, seed: int = 0) -> dict[str, int]:
    """Flip ``flips`` bits, one at a time; the number of flips and of misses by file name, as ``{name: flips}`` with
    misses under ``"missed"``."""
    rng = random.Random(seed)
    original = folder / "original"
    for step in (1, 2):
        Checkpoints(original, DIGEST).save(small_state(step))
    newest = original / "step-00000002"
    bits = [(path.name, bit) for path in sorted(newest.iterdir()) for bit in range(8 * path.stat().st_size)]
    counts: dict[str, int] = {"missed": 0}
    for number in range(flips):
        name, bit = rng.choice(bits)
        damaged = folder / f"damaged-{number}"
        shutil.copytree(original, damaged)
        flip(damaged / newest.name / name, bit)
        counts[name] = counts.get(name, 0) + 1
        counts["missed"] += not found(damaged, name)
        shutil.rmtree(damaged)
    return counts


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file around."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def found(folder: Path, name: str) -> bool:
    """Whether the damaged newest checkpoint is refused, named with its file, and the older one loaded unharmed."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        state = Checkpoints(folder, DIGEST).restore()
    aside = folder / "corrupt-step-00000002"
    return state is not None and same_state(state, small_state(1)) and aside.exists() and name in said.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    flips = parser.parse_args().flips
    with tempfile.TemporaryDirectory() as folder:
        counts = undetected_flips(Path(folder), flips)
    missed = counts.pop("missed")
    files = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    print(f"{flips - missed} of {flips} found; flips by file: {files}")
    write_row(
        name="checkpoint-bit-flips",
        figure="random single-bit flips over all files of a checkpoint, manifest included",
        target="every flip found, file named, older checkpoint loaded",
        measured=f"{flips - missed} of {flips} found ({files})",
        met=missed == 0,
        n=flips,
        failures=missed,
        command=f"python benchmarks/faults/bit_flips.py --flips {flips}",
    )


if __name__ == "__main__":
    main()
