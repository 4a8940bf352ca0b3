"""One run of 1e17 FLOPs over several calls: it stops at the limit with a checkpoint and continues from there.

The row holds the run's record (loss, tokens, FLOPs, the throughput of its last stretch) and the seconds of every call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from package_runs import STOPPED, Options, finish, parse, run

KEPT = ("state", "params", "steps", "tokens", "flops", "loss", "bits_per_byte", "seconds", "throughput", "kernels")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options: Options = parse("run_1e17.py", "One run of 1e17 FLOPs, resumed from its checkpoint.", arguments)
    size = {"width": 16, "tokens": "100000"} if options.tiny else {"width": 256, "flops": "1e17"}
    key = {"arch": "modern", **size, "corpus": options.corpus, "tokenizer": options.tokenizer}
    return finish("run_1e17.py", key, options, lambda: train(size, options))


def train(size: dict[str, Any], options: Options) -> tuple[int, Any]:
    """One stretch; facts once the run has ended."""
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = ["train", "--arch", "modern", "--corpus", options.corpus, "--tokenizer", options.tokenizer]
    for name, value in size.items():
        command += [f"--{name}", str(value)]
    if options.tiny:
        command += ["--set", "batch=4", "--set", "model.context=32"]
    code, record = run([*command, "--out", str(options.work / "run")], options.deadline)
    log = options.work / "calls.jsonl"
    with log.open("a") as file:
        file.write(json.dumps({"seconds": time.monotonic() - began, "exit_code": code}) + "\n")
    if code == STOPPED or record is None:
        return code or 1, None
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    return 0, {"record": {name: record.get(name) for name in KEPT}, "calls": calls}


if __name__ == "__main__":
    sys.exit(main())
