"""Single-bit flips in token files, before opening and while a run reads: every one must be named, none may be trained on.

    python benchmarks/faults/token_flips.py --flips 1000

A third of the flips hits a store that is hashed whole at open, a third one whose training file is checked block by block as
it is read (as large files are), a third strikes after such a file has been opened and before its block is read. Also
measured: what the checks cost.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algoprog.config import InputError
from algoprog.data import store as token_store
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore, read_store
from benchmarks.faults.corpora import small_tokens
from benchmarks.faults.rows import write_row

FILES = ("train.bin", "validation.bin", "tokenizer.json", "blocks.sha256", "meta.json")
HOW = ("at open", "block by block", "after open")


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over, in place."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ (1 << bit % 8)
        file.seek(bit // 8)
        file.write(bytes([byte]))


def read_everything(store: TokenStore, batch: int = 64, context: int = 32) -> None:
    """One epoch of training reads and one evaluation's."""
    order = make_order("shuffled", len(store.train), context, batch, seed=0)
    for step in range(order.n_windows // batch + 1):
        order.batch(store.train, step)
    store.train[-context:], store.validation[:]


def one_flip(folder: Path, how: str, draw: random.Random) -> str:
    """Flip a bit, open and read, and turn the bit back: "at open", "at read" or "not detected"."""
    name = draw.choice(FILES if how != "after open" else FILES[:1])
    path, bit = folder / name, draw.randrange(8 * (folder / name).stat().st_size)
    before = token_store.HASHED_WHOLE_BYTES
    token_store.HASHED_WHOLE_BYTES = before if how == "at open" else 0
    try:
        if how != "after open":
            flip(path, bit)
        try:
            store = read_store(folder)
        except InputError:
            return "at open"
        if how == "after open":
            flip(path, bit)
        try:
            read_everything(store)
        except InputError:
            return "at read"
        return "not detected"
    finally:
        token_store.HASHED_WHOLE_BYTES = before
        flip(path, bit)


def run(flips: int, folder: Path, seed: int = 0) -> Counter[str]:
    """``flips`` flips over the store in ``folder``, which is unharmed before and after; endings by name."""
    draw = random.Random(seed)
    found = Counter(one_flip(folder, HOW[number % 3], draw) for number in range(flips))
    read_everything(read_store(folder))
    return found


def cost(folder: Path, repeats: int = 30) -> dict[str, list[float]]:
    """Seconds of one pass of training reads: plain, with rechecks alone (hashed at open), and block by block."""
    taken: dict[str, list[float]] = {"plain": [], "hashed at open": [], "block by block": []}
    plain = np.memmap(folder / "train.bin", dtype=read_store(folder).train.dtype, mode="r")
    order = make_order("shuffled", len(plain), 32, 64, seed=0)
    whole = token_store.HASHED_WHOLE_BYTES
    for _ in range(repeats):
        for kind in taken:
            token_store.HASHED_WHOLE_BYTES = 0 if kind == "block by block" else whole
            tokens = plain if kind == "plain" else read_store(folder).train
            began = time.process_time()
            for step in range(order.n_windows // 64):
                order.batch(tokens, step)
            taken[kind].append(time.process_time() - began)
    token_store.HASHED_WHOLE_BYTES = whole
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    arguments = parser.parse_args()
    command = f"python benchmarks/faults/token_flips.py --flips {arguments.flips}"
    with tempfile.TemporaryDirectory() as scratch:
        made = small_tokens(Path(scratch))
        folder = Path(shutil.copytree(made.path, Path(scratch) / "copy"))
        found = run(arguments.flips, folder)
        print(dict(found), flush=True)
        missed = found["not detected"]
        write_row(
            name="token-flips",
            figure="single-bit flips in prepared tokens (training, validation, tokenizer, block digests, meta)",
            target="all detected at open or read",
            measured=f"{found['at open']} at open, {found['at read']} at read, {missed} missed",
            met=missed == 0, n=arguments.flips, failures=missed, command=command,
        )  # fmt: skip
        taken = {kind: np.percentile(values, [5, 50, 95]) for kind, values in cost(folder).items()}
    extra = {kind: taken[kind][1] / taken["plain"][1] - 1 for kind in ("hashed at open", "block by block")}
    windows = f"{taken['plain'][1] * 1e3:.1f} ms ({taken['plain'][0] * 1e3:.1f} to {taken['plain'][2] * 1e3:.1f})"
    write_row(
        name="token-checks-cost",
        figure="CPU time of reading one epoch of windows (64 x 33 tokens) with checks, over reading without",
        target="small beside a training step",
        measured=f"+{100 * extra['hashed at open']:.0f} % hashed at open, +{100 * extra['block by block']:.0f} % block by "
        f"block in the first epoch; plain {windows}",
        met=extra["block by block"] < 1.0, n=30, spread="medians of 30; 5 to 95 % range of the plain pass", command=command,
    )  # fmt: skip


if __name__ == "__main__":
    main()
