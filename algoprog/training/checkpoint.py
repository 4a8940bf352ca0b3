"""Checkpoints that are whole or absent: written beside, flushed, hashed, renamed into place; read only if they verify.

A checkpoint is a folder ``step-NNNNNNNN`` with tensors in safetensors files (nothing is pickled), ``state.json``, and a
``MANIFEST.json`` with the sha256 of every file. Loading takes the newest folder that verifies; a damaged one is renamed
``corrupt-...`` and named in a warning, never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from algoprog.data.cache import sync
from algoprog.training.recurrent import Carried

KEEP = 2


@dataclass(frozen=True)
class Restored:
    """Where training continues: ``step`` steps are done; ``carried`` is the recurrent state of the global batch; ``rows``
    are the metrics so far."""

    step: int
    carried: Carried
    rows: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run in ``folder``; ``digest`` ties them to its config."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        carried: Carried,
        rows: Sequence[Mapping[str, Any]] = (),
    ) -> Path:
        """Write the state after ``step`` steps and prune old checkpoints."""
        final = self.folder / f"step-{step:08d}"
        partial = self.folder / f"{final.name}.partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            files = {
                "model.safetensors": safetensors.torch.save(dict(model.state_dict())),
                "optimizer.safetensors": safetensors.torch.save(_flatten(optimizer)),
                "carried.safetensors": safetensors.torch.save(_name_carried(carried)),
                "state.json": json.dumps({"step": step, "digest": self.digest, "rows": list(rows)}).encode(),
            }
            manifest = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
            for name, data in {**files, "MANIFEST.json": json.dumps(manifest, indent=1).encode()}.items():
                _write_durably(partial / name, data)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            sync(self.folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._prune()
        return final

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Restored | None:
        """Load the newest checkpoint that verifies into ``model`` and ``optimizer``; None if there is none."""
        for partial in self.folder.glob("step-*.partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        for folder in reversed(self._finished()):
            try:
                files = _read_verified(folder)
                state = json.loads(files["state.json"])
                if state["digest"] != self.digest:
                    raise ValueError(f"belongs to run {state['digest']}, expected {self.digest}")
            except (OSError, ValueError, KeyError) as error:
                aside = folder.with_name(f"corrupt-{folder.name}")
                shutil.rmtree(aside, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):  # another rank was faster
                    folder.rename(aside)
                print(f"warning: checkpoint {folder} set aside as {aside.name}: {error}", file=sys.stderr)
                continue
            model.load_state_dict(safetensors.torch.load(files["model.safetensors"]))
            _unflatten(optimizer, safetensors.torch.load(files["optimizer.safetensors"]))
            carried = _unname_carried(safetensors.torch.load(files["carried.safetensors"]))
            return Restored(state["step"], carried, state["rows"])
        return None

    def discard(self) -> None:
        """Remove all checkpoints of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if ".partial-" not in p.name)

    def _prune(self) -> None:
        for old in self._finished()[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_verified(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint; the bytes that were hashed are the bytes that are returned.

    Raises:
        ValueError: a file differs from the manifest.
    """
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    files = {}
    for name, entry in manifest.items():
        data = (folder / name).read_bytes()
        if _sha256(data) != entry["sha256"]:
            raise ValueError(f"{name}: sha256 {_sha256(data)[:12]}..., expected {entry['sha256'][:12]}...")
        files[name] = data
    return files


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value).contiguous()
        for index, entry in state.items()
        for key, value in entry.items()
        if value is not None
    }


def _unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    current = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})


def _name_carried(carried: Carried) -> dict[str, Tensor]:
    return {
        f"{layer}.{part}": tensor.contiguous()
        for layer, pair in enumerate(carried or [])
        for part, tensor in zip(("h", "c"), pair, strict=True)
    }


def _unname_carried(tensors: dict[str, Tensor]) -> Carried:
    layers = sorted({int(name.split(".")[0]) for name in tensors})
    return [(tensors[f"{layer}.h"], tensors[f"{layer}.c"]) for layer in layers] or None
