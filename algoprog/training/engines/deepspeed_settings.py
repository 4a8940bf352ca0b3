"""Settings of the DeepSpeed engine: a JSON file says how memory and communication are shared out, and nothing else.

What the training loop decides (batch, accumulation, clip, optimiser, schedule, precision, recomputation) is refused in the
file, unless it says ``"auto"`` or ``{"enabled": false}``, which is what happens anyway. So no file changes what is computed,
except through ``zero_optimization.stage``: from stage 1 on DeepSpeed holds the gradients and clips them itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algoprog.config import InputError, unknown_key
from algoprog.recipes import CONFIGS

FOLDER = CONFIGS / "deepspeed"

OWNED = {
    "train_batch_size": "--set batch=N",
    "train_micro_batch_size_per_gpu": "--micro-batch N",
    "gradient_accumulation_steps": "--micro-batch N",
    "managed_gradient_accumulation": "--micro-batch N",
    "gradient_clipping": "--set optim.clip=X",
    "optimizer": "--set optim.name=NAME",
    "zero_allow_untested_optimizer": "--set optim.name=NAME",
    "zero_force_ds_cpu_optimizer": "--set optim.name=NAME",
    "scheduler": "--set schedule.name=NAME",
    "fp16": "--precision fp32 or bf16",
    "bf16": "--precision bf16: layers convert their fp32 weights where they use them",
    "bfloat16": "--precision bf16: layers convert their fp32 weights where they use them",
    "amp": "--precision bf16: layers convert their fp32 weights where they use them",
    "torch_autocast": "--precision bf16: layers convert their fp32 weights where they use them",
    "data_types": "--precision fp32 or bf16",
    "activation_checkpointing": "--recompute blocks",
    "sequence_parallel_size": "one or more ranks that share the batch",
    "steps_per_print": "`--json` and metrics.jsonl",
}
"""Keys of DeepSpeed that the loop owns, and what to say instead."""

FREE = (
    "wall_clock_breakdown",
    "memory_breakdown",
    "comms_logger",
    "zero_optimization",
)
"""Keys that a file may have: what they do to a run is measured in time and memory."""

ZERO_FREE = (
    "stage",
    "contiguous_gradients",
    "reduce_scatter",
    "reduce_bucket_size",
    "use_multi_rank_bucket_allreduce",
    "allgather_partitions",
    "allgather_bucket_size",
    "overlap_comm",
    "round_robin_gradients",
    "sub_group_size",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
)
"""Keys of ``zero_optimization`` that a file may have. Offloading and quantised communication are not among them."""


@dataclass(frozen=True)
class DeepSpeedSettings:
    """What a file chooses: ``stage`` of ZeRO (Rajbhandari et al. 2020) and ``free``, DeepSpeed's keys as they stand."""

    stage: int = 0
    free: Mapping[str, Any] = field(default_factory=dict)

    @property
    def delegates_clip(self) -> bool:
        """Whether no rank has the whole gradient, so that only DeepSpeed can clip it."""
        return self.stage >= 1

    def config(self, max_norm: float | None) -> dict[str, Any]:
        """The config that DeepSpeed gets; ``max_norm`` is the clip, None for none."""
        zero = {**self.free.get("zero_optimization", {}), "stage": self.stage}
        return {
            **self.free,
            "zero_optimization": zero,
            # The micro-batch only feeds DeepSpeed's own throughput arithmetic; with accumulation 1 no loss is rescaled.
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": (max_norm or 0.0) if self.delegates_clip else 0.0,
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
        }


def shipped_settings() -> list[str]:
    """Names of the files that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_settings(file: str | Path) -> DeepSpeedSettings:
    """The settings in ``file``, or in the shipped file of that name.

    Raises:
        InputError: no such file, not a JSON object, or a key that is not for it to decide.
    """
    path = Path(file)
    if path.suffix != ".json" and not path.exists():
        if str(file) not in shipped_settings():
            raise unknown_key(str(file), shipped_settings(), where="--deepspeed", kind="DeepSpeed settings")
        path = FOLDER / f"{file}.json"
    return check_settings(_read_object(path), path)


def check_settings(values: Mapping[str, Any], where: object) -> DeepSpeedSettings:
    """Settings from the keys of a DeepSpeed config.

    Raises:
        InputError: a key that the loop owns, an unknown key, or a stage that does not exist.
    """
    free = {}
    for key, value in values.items():
        if key in OWNED:
            if value != "auto" and value != {"enabled": False}:
                raise InputError(f"{key} is not DeepSpeed's to decide here", where=where, remedy=f"say {OWNED[key]}")
        elif key not in FREE:
            raise unknown_key(key, [*FREE, *OWNED], where=where)
        else:
            free[key] = value
    zero = free.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise InputError("zero_optimization", where=where, got=zero, expected='an object, {"stage": 1}')
    for key in zero:
        if key not in ZERO_FREE:
            raise unknown_key(key, list(ZERO_FREE), where=where, path=f"zero_optimization.{key}")
    stage = zero.get("stage", 0)
    if type(stage) is not int or not 0 <= stage <= 3:
        raise InputError("zero_optimization.stage", where=where, got=stage, expected="0, 1, 2 or 3")
    return DeepSpeedSettings(stage, free)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path, remedy=f"or one of {', '.join(shipped_settings())}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"not readable as JSON ({error})", where=path) from None
    if not isinstance(values, dict):
        raise InputError("not a DeepSpeed config", where=path, expected="a JSON object")
    return values
