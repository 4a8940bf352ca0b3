"""How the steps of a run are executed: operator by operator, compiled, or replayed from a CUDA graph.

Like the device and the kernels this is no part of a recipe, and like them it is recorded. A replay launches the kernels of
the eager step, so it changes no number; ``compile`` fuses operations and may change the last bit of a loss.

``auto`` is eager everywhere: replays have not been proven on a GPU yet (``tests/gpu/test_capture.py`` does that), and
what is unproven must be asked for by name.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any, Literal

from algoprog.config import InputError, unknown_key
from algoprog.training.engines import Placement

Mode = Literal["eager", "compile", "capture"]
REQUESTS = ("auto", "eager", "compile", "capture")


@dataclass(frozen=True)
class Execution:
    """What was asked for, what runs, and why where the two differ."""

    requested: str
    mode: Mode
    reason: str

    def as_json(self) -> dict[str, Any]:
        """As a run's record keeps it."""
        return asdict(self)


def choose_execution(request: str, place: Placement, obstacle: str | None) -> Execution:
    """The execution of steps at ``place``; ``obstacle`` says why they cannot be replayed, None if they can.

    Raises:
        InputError: the request is unknown, or compiling is impossible here.
    """
    if request not in REQUESTS:
        raise unknown_key(request, list(REQUESTS), where="--execution", kind="execution")
    if request == "compile":
        _check_compiler(place)
        return Execution(request, "compile", "requested")
    if request != "capture":
        reason = "requested" if request == "eager" else "default: replays have not been proven on a GPU yet"
        return Execution(request, "eager", reason)
    if place.device.type != "cuda":
        obstacle = f"CUDA graphs need a CUDA device, not {place.device.type}"
    return Execution(request, "eager", obstacle) if obstacle else Execution(request, "capture", "requested")


def _check_compiler(place: Placement) -> None:
    if place.engine != "torch":
        raise InputError("compiled steps need the torch engine", where="--execution", got=place.engine)
    compiler = os.environ.get("CXX", "g++")
    if place.device.type == "cpu" and not any(map(shutil.which, (compiler, "clang++"))):
        raise InputError(
            "torch.compile needs a C++ compiler on a CPU, and there is none",
            where="--execution",
            got=f"neither {compiler} nor clang++ on PATH",
            remedy="install one (Debian: apt-get install g++), set CXX, or use --execution eager",
        )
