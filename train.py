"""Train one run under any launcher: `python train.py`, `torchrun train.py`, `deepspeed train.py`.

Takes the options of `algoprog train`. The deepspeed launcher adds `--local_rank=N` to the arguments; the rank is read from
the environment instead. Under that launcher the engine is DeepSpeed unless `--engine` says otherwise.
"""

import os
import sys

from algoprog.cli import main

if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--local_rank")]
    launched_by_deepspeed = len(arguments) < len(sys.argv) - 1 or "CROSS_RANK" in os.environ
    if launched_by_deepspeed and not any(argument.startswith("--engine") for argument in arguments):
        arguments += ["--engine", "deepspeed"]
    main(["train", *arguments])
