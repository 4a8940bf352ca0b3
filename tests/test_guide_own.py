"""The page on one's own architectures, recipes and runs: every command on it runs, in a copy of its examples."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
COMMANDS = re.findall(r"```bash\n(.*?)```", (GUIDE / "bring-your-own.md").read_text(encoding="utf-8"), re.S)
BIN = Path(sys.executable).parent


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'PATH="{BIN}:$PATH" {command}'], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_every_command_of_the_page(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GUIDE / "examples", tmp_path / "examples"))
    commands = [line for block in COMMANDS for line in block.splitlines()]
    assert len(commands) == 7
    out = {}
    for command in commands:
        done = run(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        out[command] = done.stdout
    gain = next(text for command, text in out.items() if "--to ShiftMixer" in command)
    assert re.search(r"\d", gain) and "ShiftMixer" in gain
    assert (folder / "own" / "report" / "index.html").is_file()
    refused = run("algoprog sweep own.yaml --out other", folder)
    assert refused.returncode == 2 and "--code shift_mixer.py" in refused.stderr and not (folder / "other").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in (GUIDE / "examples").iterdir() if path.is_file()))
def test_every_example_is_on_the_page(name: str) -> None:
    assert name in (GUIDE / "bring-your-own.md").read_text(encoding="utf-8")
