"""Runs per hour of a real sweep: three architectures, three widths, 1e14 to 1e15 FLOPs, start-up and evaluation included."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from package_runs import Options, finish, parse, sweep

GRIDS = [{"arch": ["modern", "retro", "lstm"], "width": [32, 64, 128], "flops": [1e14, 3.2e14, 1e15]}]
TINY = [
    {"arch": [arch], "width": [16], "tokens": [2048], "settings": {"batch": 4, "model": {"context": 32}}}
    for arch in ("modern", "retro", "lstm")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options: Options = parse("sweep_1e15.py", "Runs per hour from 1e14 to 1e15 FLOPs.", arguments)
    grids = TINY if options.tiny else GRIDS
    key = {"grids": grids, "corpus": options.corpus, "tokenizer": options.tokenizer}
    return finish("sweep_1e15.py", key, options, lambda: sweep("sweep-1e15", grids, options))


if __name__ == "__main__":
    sys.exit(main())
