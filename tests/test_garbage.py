"""No garbage is collected while modules are loaded, and it is again afterwards."""

import gc
import subprocess
import sys

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


def test_a_command_leaves_nothing_for_the_collection_at_the_end_of_python():
    program = """if True:
        import atexit, gc, sys
        # Called when Python ends: all that exists then is exempt.
        atexit.register(lambda: print(gc.get_freeze_count() > 10 * len(gc.get_objects())))
        sys.argv = ["schedsearch", "--help"]
        from schedsearch.cli import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "True"
