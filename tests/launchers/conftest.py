"""The places where workers run: this machine, and a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.launchers.rays import TOKEN, RayCluster


@pytest.fixture(scope="session")
def token() -> Iterator[None]:
    """The settings that a driver needs to join a test cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def cluster(token: None) -> Iterator[RayCluster]:
    """A Ray cluster of one node."""
    cluster = RayCluster()
    yield cluster
    cluster.end()


@pytest.fixture(params=["local", "ray"])
def place(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The flags that name a place."""
    return () if request.param == "local" else request.getfixturevalue("cluster").flags
