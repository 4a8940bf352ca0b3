"""Metadata lives in pyproject.toml. This file says which packages there are: `algoprog/kernels`, `algoprog/configs` and
`algoprog/csrc` are links to top-level folders, which setuptools follows, so that all three are part of every wheel."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["algoprog", "algoprog.*"]),
    package_data={
        "algoprog": [
            "configs/**/*.yaml",
            "configs/**/*.json",
            "csrc/*.cu",
            "csrc/*.cuh",
            "csrc/table.csv",
            "report/templates/*",
            "data/open_english/*",
            "py.typed",
        ]
    },
)
