"""Installs `search_spaces/` as a folder of the package; all other settings: pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSpaces(build_py):
    """Copies the shipped spaces into the built package.

    A link from the package to the folder would do the same, but a zip of the repository that is
    unpacked without links has a text file in its place.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable package finds them beside itself
            target = Path(self.build_lib, "schedsearch", "search_spaces")
            target.mkdir(parents=True, exist_ok=True)
            for space in Path(__file__).with_name("search_spaces").glob("*.toml"):
                shutil.copy(space, target)


setup(cmdclass={"build_py": BuildWithSpaces})
