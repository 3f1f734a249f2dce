"""Settings and fixtures of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

# Before torch is first imported: tests run side by side, a process per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One cache of compiled code for all tests, which compile the same steps.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(gettempdir()) / f"tests-{os.getuid()}"))
# The tasks of the tests are outside the current folder of most tests.
os.environ["SCHEDSEARCH_TRUST_TASK"] = "1"
# Workers are processes, which import these tasks too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
)

import pytest
from hypothesis import settings

from tests.searches import end_begun
from tests.servers import SERVERS, Servers

# A time limit per example would only measure who else uses the machine.
settings.register_profile("schedsearch", settings.default, deadline=None)
settings.load_profile("schedsearch")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a full run that left a test out: what is not run is not known to hold.

    Only a GPU cannot be installed where there is none.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    if os.environ.get("CI") and any("gpu" not in report.keywords for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_finish() -> None:
    """Exempt what the imports have made from garbage collection, which takes 0.3 s otherwise.

    The Trainer of transformers collects after each training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    """Keep what one test started out of the next, and show its messages if the test fails."""
    with end_begun():
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The database servers, one of a kind in each process that tests."""
    found = Servers()
    yield found
    found.close()


@pytest.fixture(
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.long) for name in SERVERS)]
)
def backend(request: pytest.FixtureRequest) -> str:
    """Name each kind of database in turn; those with a server belong to a full run."""
    return str(request.param)


@pytest.fixture
def database_url(backend: str, tmp_path: Path, servers: Servers) -> Iterator[str]:
    """Name an empty database of each kind in turn."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'studies.db'}"
        return
    try:
        database = servers.database(backend)
        servers.url(backend)
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on {backend}: this machine has no {error}")
    with database as url:
        yield url
