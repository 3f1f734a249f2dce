"""What every test runs under."""

from __future__ import annotations

import os

# Before torch is first imported: tests run side by side, a process per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests' own tasks lie where most tests' current folder is not.
os.environ["SCHEDSEARCH_TRUST_TASK"] = "1"

import pytest
from hypothesis import settings

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
