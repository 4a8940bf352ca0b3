"""Who may import whom: the table of rooms, held against every import statement."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import algoprog

ROOT = Path(algoprog.__file__).resolve().parent.parent

ALLOWED = {
    "config": set(),
    "recipes": {"config"},
    "scaling": set(),
    "kernels": set(),
    "data": {"config"},
    "flops": {"config"},
    "models": {"config", "kernels", "flops"},
    "training": {"config", "recipes", "data", "models", "flops", "kernels"},
    "sweep": {"config", "recipes", "training", "flops", "data"},
    "report": {"config", "scaling", "sweep"},
    "doctor": {"kernels"},
    "bench": {"config", "recipes", "data", "models", "flops", "kernels", "training", "sweep"},
    "quickstart": {"config", "recipes", "scaling", "data", "training", "sweep", "report"},
    "cli": {"config", "recipes", "scaling", "data", "training", "sweep", "report", "quickstart", "doctor", "bench"},
    "__init__": {"config", "recipes", "scaling", "data", "models", "training", "sweep", "report"},
}
WITHOUT_TORCH = ("config", "recipes", "scaling", "report")
SCALING_MAY = {"numpy", "scipy", "pandas", "pyarrow"}
REPORT_MAY_READ = {"algoprog.sweep.store", "algoprog.sweep.driver"}


def rooms() -> dict[str, list[Path]]:
    package = ROOT / "algoprog"
    found = {path.stem: [path] for path in package.glob("*.py")}
    for folder in package.iterdir():
        if folder.is_dir() and folder.name not in ("__pycache__", "configs", "csrc"):
            found[folder.name] = sorted(folder.resolve().rglob("*.py"))
    return found


def imports(path: Path) -> list[str]:
    """Absolute names of every module that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("room", sorted(rooms()))
def test_rooms_import_only_what_they_may(room: str) -> None:
    assert room in ALLOWED, f"new room {room}: say what it may import"
    for path in rooms()[room]:
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "kernels", f"{path}: import algoprog.kernels"
            if parts[0] == "algoprog" and len(parts) > 1 and parts[1] != room:
                assert parts[1] in ALLOWED[room], f"{path} imports {name}"
            if room == "scaling" and parts[0] not in SCALING_MAY | {"algoprog"}:
                assert parts[0] in sys.stdlib_module_names | {"__future__"}, f"{path} imports {name}"
            if room == "report" and parts[:2] == ["algoprog", "sweep"]:
                assert ".".join(parts[:3]) in REPORT_MAY_READ, f"{path} imports {name}"
            if room in WITHOUT_TORCH:
                assert parts[0] != "torch", f"{path} imports torch"


@pytest.mark.parametrize(
    "module", ["algoprog", "algoprog.cli", "algoprog.scaling", "algoprog.report.page", "algoprog.sweep.store"]
)
def test_light_modules_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cold_scaling_import_is_fast() -> None:
    code = "import time; t = time.process_time(); import algoprog.scaling; print(time.process_time() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(2)
    ]
    assert min(seconds) < 1.0


def test_public_names_resolve() -> None:
    for name in algoprog.__all__:
        assert getattr(algoprog, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        algoprog.nonsense  # noqa: B018


def test_every_public_name_of_scaling_resolves() -> None:
    from algoprog import scaling

    for name in scaling.__all__:
        assert getattr(scaling, name) is not None
    assert set(scaling.__all__) == set(scaling._MODULE)
    with pytest.raises(AttributeError, match="nonsense"):
        scaling.nonsense  # noqa: B018
