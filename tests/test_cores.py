"""The number of threads of a worker stays within what its process may use."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from schedsearch.cores import available_cores, cgroup_cores, l2_cache_bytes, most_threads


@pytest.mark.parametrize(
    ("given", "most"),
    [("2", 2), ("1", 1), ("3,1", 3), ("64", 8), ("", 8), ("all", 8), ("0", 8), ("-1", 8)],
)
def test_omp_num_threads_is_an_upper_bound(monkeypatch, given, most):
    monkeypatch.setattr("schedsearch.cores.available_cores", lambda: 8)
    assert most_threads(1, {"OMP_NUM_THREADS": given}) == most


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("schedsearch.cores.available_cores", lambda: 8)
    assert [most_threads(workers, {}) for workers in (0, 1, 2, 3, 9)] == [8, 8, 4, 2, 1]


def test_the_quota_of_a_containing_group_limits_too(tmp_path):
    group = tmp_path / "pod" / "container"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    assert cgroup_cores({"": "/pod/container"}, tmp_path) == math.inf
    (group.parent / "cpu.max").write_text("250000 100000\n")
    assert cgroup_cores({"": "/pod/container"}, tmp_path) == 2.5


def test_quotas_of_the_first_version_count_as_well(tmp_path):
    group = tmp_path / "cpu" / "job"
    group.mkdir(parents=True)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_cores({"cpu": "/job"}, tmp_path) == math.inf
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    assert cgroup_cores({"cpu": "/job"}, tmp_path) == 0.5


def test_a_quota_below_one_core_leaves_one(monkeypatch):
    monkeypatch.setattr("schedsearch.cores.cgroup_cores", lambda own: 0.5)
    assert available_cores() == 1


def test_the_affinity_limits_the_cores():
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}})\n"
        "from schedsearch.cores import available_cores; print(available_cores())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "1"


def test_the_size_of_the_cache_is_read_with_its_unit(tmp_path):
    file = tmp_path / "size"
    assert l2_cache_bytes(file) == 2**20
    for text, size in (("512K\n", 2**19), ("2M\n", 2**21), ("unknown\n", 2**20)):
        file.write_text(text)
        assert l2_cache_bytes(file) == size
