"""Checkpoints that are whole or absent: written beside, flushed, hashed, renamed into place; read only if they verify.

A checkpoint is a folder ``step-NNNNNNNN`` with tensors in safetensors files (nothing is pickled), ``state.json``, and a
``MANIFEST.json`` that verifies every file and itself (:mod:`algoprog.training.manifest`). Loading takes the newest folder that
verifies; a damaged one is renamed ``corrupt-...`` and named in a warning, never loaded and never removed.

What a crash leaves, by what it interrupted: a folder ``step-....partial-PID``, removed at the next start; or, after the
rename, a checkpoint more than needed. Old ones are removed last, and only once a newer one has been read back.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from algoprog.training import claim, manifest
from algoprog.training.durable import remove_folder, rename_durably, write_durably
from algoprog.training.recurrent import Carried
from algoprog.training.state import Fits, RunState
from algoprog.training.tensor_file import tensor_chunks

KEEP = 2
NUMBERS = ("step", "rows", "skipped", "last_loss", "position", "environment")


class Checkpoints:
    """The checkpoints of one run in ``folder``; ``digest`` ties them to its config."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest

    def save(self, state: RunState, prune: bool = True) -> Path:
        """Write ``state``, whose tensors lie in host memory; ``prune``: remove checkpoints that are no more needed.

        A checkpoint of this step that verifies is left as it is: the state after a step is a function of the config.

        Raises:
            OSError: the disk is full, read-only or gone; nothing of this step is left, and older checkpoints are as before.
        """
        final = self.folder / f"step-{state.step:08d}"
        if final.exists():
            if self._verifies(final):
                return final
            self._set_aside(final, "does not verify")
        partial = self.folder / f"{final.name}.partial-{os.getpid()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_folder(partial)
        try:
            os.mkdir(partial)
            self._write(partial, state)
            rename_durably(partial, final)
        except BaseException:
            _try_to_remove(partial)
            raise
        if prune:
            self._prune()
        return final

    def restore(self, fits: Fits = lambda state: None) -> RunState | None:
        """The newest state that verifies and that ``fits`` accepts; None if there is none."""
        for partial in self.folder.glob("*.partial-*"):
            _try_to_remove(partial)
        for folder in reversed(self._finished()):
            try:
                state = self._read(folder)
                fits(state)
                return state
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._set_aside(folder, str(error))
        return None

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, verified or not."""
        finished = self._finished()
        return int(finished[-1].name.removeprefix("step-")) if finished else None

    def discard(self) -> None:
        """Remove the checkpoints of a finished run; those set aside stay for whoever wants to know why."""
        for folder in self.folder.glob("step-*"):
            _try_to_remove(folder)
        try:
            (self.folder / claim.NAME).unlink(missing_ok=True)
            self.folder.rmdir()
        except OSError:  # not empty, or never made
            return

    def _write(self, partial: Path, state: RunState) -> None:
        numbers = {name: getattr(state, name) for name in NUMBERS}
        numbers.update(digest=self.digest, versions=_versions(), rows=list(state.rows))
        files = {
            "model.safetensors": tensor_chunks(state.model),
            "optimizer.safetensors": tensor_chunks(state.optimizer),
            "carried.safetensors": tensor_chunks(_name_carried(state.carried)),
            "pending.safetensors": tensor_chunks({"pending": state.pending}),
            "state.json": [json.dumps(numbers, allow_nan=False).encode()],
        }
        written = {name: write_durably(partial / name, chunks) for name, chunks in files.items()}
        write_durably(partial / manifest.NAME, [manifest.manifest_bytes(written)])

    def _read(self, folder: Path) -> RunState:
        files = manifest.read_verified(folder)
        numbers: Mapping[str, Any] = json.loads(files["state.json"])
        if numbers["digest"] != self.digest:
            raise manifest.Damaged(f"belongs to run {numbers['digest']}, expected {self.digest}")
        if folder.name != f"step-{numbers['step']:08d}":
            raise manifest.Damaged(f"holds step {numbers['step']}, which its name does not say")
        return RunState(
            model=safetensors.torch.load(files["model.safetensors"]),
            optimizer=safetensors.torch.load(files["optimizer.safetensors"]),
            carried=_unname_carried(safetensors.torch.load(files["carried.safetensors"])),
            pending=safetensors.torch.load(files["pending.safetensors"])["pending"],
            **{name: numbers[name] for name in NUMBERS},
        )

    def _finished(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if ".partial-" not in p.name)

    def _verifies(self, folder: Path) -> bool:
        try:
            manifest.read_verified(folder)
        except (OSError, ValueError):
            return False
        return True

    def _set_aside(self, folder: Path, why: str) -> None:
        aside, n = folder.with_name(f"corrupt-{folder.name}"), 1
        while aside.exists():
            aside, n = folder.with_name(f"corrupt-{folder.name}.{n}"), n + 1
        try:
            os.rename(folder, aside)
        except FileNotFoundError:  # another rank was faster
            return
        except OSError as error:  # a folder that cannot be written: the checkpoint stays, and is not loaded
            print(f"warning: checkpoint {folder} is not used ({why}) and cannot be renamed: {error}", file=sys.stderr)
            return
        print(f"warning: checkpoint {folder} set aside as {aside.name}: {why}", file=sys.stderr)

    def _prune(self) -> None:
        """Remove all but the newest ones, provided that one of those that stay can be read back."""
        finished = self._finished()
        kept, old = finished[-KEEP:], finished[:-KEEP]
        if old and any(self._verifies(folder) for folder in reversed(kept)):
            for folder in old:
                _try_to_remove(folder)


def _try_to_remove(folder: Path) -> None:
    """What cannot be removed now is removed at the next start; a full or broken disk has worse to say."""
    try:
        remove_folder(folder)
    except OSError:
        return


def _versions() -> dict[str, str]:
    return {
        "algoprog": importlib.metadata.version("algoprog"),
        "torch": torch.__version__,
        "safetensors": importlib.metadata.version("safetensors"),
    }


def _name_carried(carried: Carried) -> dict[str, Tensor]:
    return {
        f"{layer}.{part}": tensor
        for layer, pair in enumerate(carried or [])
        for part, tensor in zip(("h", "c"), pair, strict=True)
    }


def _unname_carried(tensors: Mapping[str, Tensor]) -> Carried:
    layers = sorted({int(name.split(".")[0]) for name in tensors})
    return [(tensors[f"{layer}.h"], tensors[f"{layer}.c"]) for layer in layers] or None
