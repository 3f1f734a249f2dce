"""The files that `schedsearch init` writes: starter projects, and copies of shipped spaces."""

from schedsearch.scaffold.projects import Kind, check_name, missing_modules, project_files
from schedsearch.scaffold.spaces import copy_of_space, shipped_spaces
from schedsearch.scaffold.writing import write_new

__all__ = [
    "Kind",
    "check_name",
    "copy_of_space",
    "missing_modules",
    "project_files",
    "shipped_spaces",
    "write_new",
]
