"""Make docs/results.md anew: ``python docs/results/make.py`` writes its tables and figures from the committed runs.

``python docs/results/make.py --stores FOLDER`` first takes those runs out of FOLDER/SWEEP, one folder per sweep, made by
``algoprog sweep SWEEP --size cpu --out FOLDER/SWEEP``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of pages.py
import drawings
import pages
import records
from tables import BLOCKS

PAGE = Path(__file__).resolve().parents[1] / "results.md"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, help="take the runs out of FOLDER/SWEEP first")
    chosen = parser.parse_args()
    if chosen.stores is not None:
        records.export(chosen.stores)
    for path in drawings.write_figures():
        print(path)
    pages.write_blocks(PAGE, BLOCKS)
    print(PAGE)


if __name__ == "__main__":
    main()
