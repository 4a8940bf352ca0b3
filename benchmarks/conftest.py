"""What a benchmark's JSON says about where it was made: processor, versions and commit, no names of machines."""

from __future__ import annotations

import importlib.metadata
from typing import Any

PACKAGES = ("algoprog", "numpy", "scipy", "pandas", "pytest-benchmark", "lmfit", "chinchilla")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Keep the processor and the versions of what was measured."""
    cpu = machine_info.get("cpu", {})
    kept = {
        "processor": cpu.get("brand_raw", "unknown"),
        "cores": cpu.get("count"),
        "python": machine_info.get("python_version"),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    machine_info.clear()
    machine_info.update(kept)


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Keep the commit, and per row its seconds and its accuracy."""
    output_json["commit_info"] = {key: output_json["commit_info"].get(key) for key in ("id", "dirty", "time")}
    for row in output_json["benchmarks"]:
        stats = {key: row["stats"][key] for key in ("min", "median", "max", "rounds")}
        for key in [key for key in row if key not in ("name", "group", "params", "extra_info")]:
            del row[key]
        row["seconds"] = stats


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
