"""The fault suite shares its experiments with `benchmarks/faults`, so that a figure and its test are the same code."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
