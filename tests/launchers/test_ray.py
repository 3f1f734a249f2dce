"""Workers on a cluster of several nodes: one of them dies, and nothing secret is to be read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedsearch.storage import StudyHandle, open_database, open_study
from tests import searches
from tests.launchers.rays import Node, RayCluster
from tests.processes import descendants, every_process, workers_of
from tests.searches import begin, document, make_study_at, url_of, wait_until, work, write_space
from tests.servers import PASSWORD, Servers

pytestmark = pytest.mark.long


@pytest.fixture
def pair(token: None) -> Iterator[tuple[RayCluster, Node]]:
    """A cluster of two nodes, and the one that is not its head."""
    cluster = RayCluster()
    yield cluster, cluster.add_node()
    cluster.end()


def open_small(url: str) -> StudyHandle:
    return open_study(open_database(url), "small")


def test_a_node_dies_and_the_study_ends_with_its_number_of_trials(
    tmp_path: Path, pair: tuple[RayCluster, Node], servers: Servers
):
    cluster, second = pair
    content = document(searches.train_when_let)
    with servers.database("postgresql") as url:
        search = begin(
            *("start", write_space(tmp_path, content), "--trials", 8, "--workers", 4),
            # Two workers to each node.
            *("--cpus-per-worker", 2, *cluster.flags),
            folder=tmp_path,
            SCHEDSEARCH_STORAGE=url,
        )
        there = second.process.pid
        wait_until(lambda: len({*workers_of(url)} & {*descendants(there)}) == 2, 120)
        study = open_small(url)
        wait_until(lambda: study.queue.counts().running == 4, 120)
        second.kill()
        (tmp_path / "go").touch()
        out, err = search.communicate(timeout=200)
        assert search.returncode == 0, err
        assert (
            "a worker was killed (its Ray actor or node died): its trials are queued again" in err
        )
        counts = study.queue.counts()
        assert (counts.complete + counts.pruned, counts.trials, counts.running) == (8, 8, 0)
        assert workers_of(url) == []
        assert PASSWORD not in out + err


def test_without_an_address_a_cluster_of_this_machine_alone_is_started(tmp_path: Path):
    flags = ("--storage", url_of(tmp_path), "--trials", 2, "--on", "ray", "--json")
    with tempfile.TemporaryDirectory(prefix="ray-") as short:
        own = {"HOME": str(tmp_path), "RAY_TMPDIR": short, "RAY_ADDRESS": ""}
        search = begin("start", write_space(tmp_path, document()), *flags, folder=tmp_path, **own)
        out, err = search.communicate(timeout=300)
        assert any(Path(short).iterdir())
    assert search.returncode == 0, err
    assert json.loads(out)["trials"]["complete"] == 2
    assert "Traceback" not in err


def test_a_confirmation_trains_each_of_its_runs_once_on_a_cluster(
    tmp_path: Path, cluster: RayCluster, servers: Servers
):
    with servers.database("postgresql") as url:
        work(make_study_at(url, document(trials=24, pruner={"name": "none"})))
        confirm = ("confirm", "small", "--top", 1, "--seeds", 6, "--json", "--workers", 2)
        confirmed = begin(*confirm, *cluster.flags, folder=tmp_path, SCHEDSEARCH_STORAGE=url)
        out, err = confirmed.communicate(timeout=200)
        assert confirmed.returncode == 0, err
        assert json.loads(out)["study"] == "small"
        runs = open_study(open_database(url), "small:confirm").trials()
        trained = [(run.user_attrs["trial"], run.user_attrs["seed"]) for run in runs]
        assert len(set(trained)) == len(trained) > 6
        assert {run.state.name for run in runs} == {"COMPLETE"}


def test_the_password_is_in_no_command_line_and_in_nothing_that_ray_writes(
    tmp_path: Path, cluster: RayCluster, servers: Servers
):
    content = document(searches.train_slowly) | {"horizon": 100_000}
    with servers.database("postgresql") as url:
        search = begin(
            *("start", write_space(tmp_path, content), *cluster.flags),
            folder=tmp_path,
            SCHEDSEARCH_STORAGE=url,
        )
        wait_until(lambda: bool(workers_of(url)), 120)
        assert not [command for _, command, _ in every_process() if PASSWORD in command]
        search.terminate()
        out, err = search.communicate(timeout=60)
        assert search.returncode == 130, err
        written = [path for path in cluster.folder.rglob("*") if path.is_file()]
        assert len(written) > 10
        assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
        assert PASSWORD not in out + err


def refusal(folder: Path, *flags: object) -> str:
    """Return what `start` says to wrong input; nothing is written."""
    search = begin(
        *("start", write_space(folder, document()), "--storage", url_of(folder), *flags),
        folder=folder,
    )
    out, err = search.communicate(timeout=300)
    assert (search.returncode, out) == (2, "")
    assert "Traceback" not in err
    assert not (folder / "studies.db").exists()
    return err


def test_nodes_do_not_share_a_sqlite_file(tmp_path, pair):
    assert "2 nodes, which cannot share a SQLite file" in refusal(tmp_path, *pair[0].flags)


def test_what_no_node_has_is_refused(tmp_path, cluster):
    said = refusal(tmp_path, *cluster.flags, "--gpus-per-worker", 1)
    assert "no node of the Ray cluster has the CPUs (1) and GPUs (1) of a worker" in said


def test_an_address_without_a_cluster_is_refused_in_a_line(tmp_path):
    assert "host:port of the cluster's head" in refusal(
        tmp_path, "--on", "ray", "--address", "ray://somewhere:10001"
    )
    assert "--address is for workers on Ray" in refusal(tmp_path, "--address", "somewhere:6379")


def test_without_ray_one_line_says_what_to_install(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('not installed')\n")
    said = refusal(tmp_path, "--on", "ray")
    assert said == "error: --on ray needs Ray: pip install 'schedsearch[ray]'\n"
