"""No garbage is collected while modules are loaded, and it is again afterwards."""

import gc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from schedsearch.garbage import without_collection


def test_garbage_is_collected_again_after_the_block_and_after_an_error_in_it():
    with without_collection():
        with without_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="in the block"), without_collection():
        raise ValueError("in the block")
    assert gc.isenabled()


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)


def test_a_command_leaves_nothing_for_the_collections_at_the_end_of_python(tmp_path):
    done = run(
        """
        import atexit, gc, sys
        # Called when Python ends: all that exists then is exempt.
        atexit.register(lambda: print(gc.get_freeze_count() > 10 * len(gc.get_objects())))
        sys.argv = ["schedsearch", "--help"]
        from schedsearch.cli import main
        main()
        """,
        tmp_path,
    )
    assert done.stdout.splitlines()[-1] == "True"


def test_a_file_in_a_cycle_of_objects_is_written_to_its_end(tmp_path):
    """Only the garbage collector closes such a file, and so writes its buffer: it is off here."""
    run(
        """
        import sys
        from schedsearch.cli import main
        from schedsearch.garbage import keep_all

        class Logger:
            def __init__(self, name):
                self.file, self.itself = open(name, "w"), self
                self.file.write("last line")

        first = Logger("before")
        keep_all()
        second = Logger("after")
        sys.argv = ["schedsearch", "--help"]
        main()
        """,
        tmp_path,
    )
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text() == "last line"
