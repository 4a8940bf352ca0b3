"""The frontier of three architectures up to 1e16 FLOPs: laws and gains from runs that one GPU makes in a few calls.

The facts of the row hold the sweep's pace, and the gain of modern over lstm and over retro at 1e16 FLOPs with its interval.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from package_runs import Options, finish, parse, run, sweep

GRIDS = [
    {"arch": ["modern", "retro", "lstm"], "width": [32, 64], "flops": [1e14, 3.2e14, 1e15]},
    {"arch": ["modern", "retro", "lstm"], "width": [64, 128], "flops": [3.2e15]},
    {"arch": ["modern", "retro", "lstm"], "width": [128, 192], "flops": [1e16]},
]
SMALL = {"batch": 4, "model": {"context": 32}}
TINY = [
    {"arch": ["modern", "retro", "lstm"], "width": [16], "tokens": [1024, 2048, 4096, 8192], "settings": SMALL},
]
GAINS = (("lstm", "modern"), ("retro", "modern"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options: Options = parse("frontier_1e16.py", "The frontier up to 1e16 FLOPs.", arguments)
    grids = TINY if options.tiny else GRIDS
    key = {"grids": grids, "corpus": options.corpus, "tokenizer": options.tokenizer}
    return finish("frontier_1e16.py", key, options, lambda: frontier(grids, options))


def frontier(grids: list[dict[str, Any]], options: Options) -> tuple[int, Any]:
    """The sweep, then the gains at the largest budget; a gain that cannot be had is None, and its exit code is kept."""
    code, facts = sweep("frontier-1e16", grids, options)
    if code:
        return code, None
    at = "1e9" if options.tiny else "1e16"
    gains = {}
    for old, new in GAINS:
        command = ["ceg", str(options.work / "sweep"), "--from", old, "--to", new, "--at-flops", at, "--draws", "200"]
        ended, found = run(command, options.deadline + 120)
        gains[f"{new} over {old}"] = {"exit_code": ended, "found": found}
    return 0, {**facts, "gains": gains}


if __name__ == "__main__":
    sys.exit(main())
