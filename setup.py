"""Metadata lives in pyproject.toml. This file says which packages there are: `algoprog/kernels` and `algoprog/configs` are
links to top-level folders, which `find_packages` follows, so that both are part of every wheel."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["algoprog", "algoprog.*"]),
    package_data={
        "algoprog": ["configs/**/*.yaml", "configs/**/*.json", "report/templates/*", "data/open_english/*", "py.typed"]
    },
)
