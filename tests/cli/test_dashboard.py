"""`dashboard`: the real server in its own process, with requests by HTTP and by a browser."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from socketserver import ThreadingMixIn
from subprocess import Popen

import optuna_dashboard
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import text

from schedsearch.report.dashboard import RequestFilter, accepted_names, warm_cache
from schedsearch.report.dashboard_artifacts import DashboardArtifacts
from schedsearch.report.dashboard_server import MAX_CONNECTIONS, make_server
from schedsearch.storage import StudyHandle, open_database
from tests.browser import browser
from tests.cli.command import Command
from tests.searches import ROOT, begin, make_study, url_of, work

EXAMPLE = ROOT / "studies.db.example"


@dataclass(frozen=True)
class Served:
    """A dashboard that listens, and its messages until then."""

    process: Popen[str]
    port: int
    messages: str

    def request(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str):
        status, body = self.request("GET", path)
        assert status == 200, body
        return json.loads(body)


@contextmanager
def served(folder: Path, *arguments: object, storage: str | None = None) -> Iterator[Served]:
    """Serve a storage on a free port, until the block ends."""
    url = storage or url_of(folder)
    process = begin("dashboard", "--port", 0, *arguments, folder=folder, SCHEDSEARCH_STORAGE=url)
    messages = ""
    with process:
        try:
            for line in process.stderr:
                messages += line
                if found := re.search(r"http://.*:(\d+)/dashboard \(Ctrl-C stops it\)", line):
                    yield Served(process, int(found[1]), messages)
                    return
            pytest.fail(f"the dashboard ended by itself: {messages}")
        finally:
            process.terminate()


def searched(folder: Path) -> StudyHandle:
    study = make_study(folder)
    work(study, best_trial_callback=DashboardArtifacts(study))
    return study


@pytest.fixture
def study(tmp_path):
    return searched(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory, finished):
    """Share a read-only dashboard between tests."""
    folder = tmp_path_factory.mktemp("dashboard")
    with served(folder, storage=finished.database.url) as dashboard:
        yield dashboard


def test_studies_and_trials_are_served_with_their_attributes(dashboard, finished):
    best = finished.complete_trials()[0]
    [listed] = dashboard.get("/api/studies")["study_summaries"]
    assert listed["study_name"] == "small"
    shown = dashboard.get(f"/api/studies/{listed['study_id']}")["trials"][best.number]
    attributes = {a["key"]: a["value"] for a in shown["user_attrs"]}
    assert json.loads(attributes["plan"]) == best.user_attrs["plan"]
    assert shown["values"] == [best.value]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/{study}"),
        ("PUT", "/api/studies/{study}/note"),
        ("POST", "/api/studies/{study}/rename"),
        ("POST", "/api/studies"),
    ],
)
def test_by_default_nothing_can_be_changed(dashboard, finished, method, path):
    status, body = dashboard.request(method, path.format(study=finished.study_id))
    assert status == 405
    assert body == "the dashboard is read-only: start it with --allow-edit to make changes\n"
    assert len(dashboard.get("/api/studies")["study_summaries"]) == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", ""]
)
def test_a_foreign_host_name_is_refused(dashboard, host):
    assert dashboard.request("GET", "/api/studies", Host=host) == (421, "unknown host name\n")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:9000", "LOCALHOST:1"])
def test_names_of_this_machine_and_addresses_are_accepted(dashboard, host):
    assert dashboard.request("GET", "/api/studies", Host=host)[0] == 200


def test_editing_needs_the_flag_and_the_dashboards_origin(tmp_path, study):
    path = f"/api/studies/{study.study_id}"
    with served(tmp_path, "--allow-edit") as dashboard:
        assert "can change and delete every study" in dashboard.messages
        assert dashboard.request("DELETE", path, Origin="http://evil.example")[0] == 403
        assert len(dashboard.get("/api/studies")["study_summaries"]) == 1
        origin = f"http://127.0.0.1:{dashboard.port}"
        assert dashboard.request("DELETE", path, Origin=origin)[0] == 204
        assert dashboard.get("/api/studies")["study_summaries"] == []


def test_a_public_address_earns_a_warning_and_a_loopback_address_none(tmp_path, study, dashboard):
    assert dashboard.messages.startswith("sqlite:///")
    with served(tmp_path, "--host", "0.0.0.0") as open_to_all:
        assert open_to_all.messages.startswith(
            "warning: there is no password: everyone who can reach 0.0.0.0 can read every study\n"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_at_once_without_a_traceback(tmp_path, study, number):
    with served(tmp_path) as dashboard:
        dashboard.process.send_signal(number)
        assert dashboard.process.wait(timeout=10) == 0
        assert dashboard.process.stderr.read() == "stopped\n"
        assert dashboard.process.stdout.read() == ""


def test_serving_a_database_does_not_change_a_byte_of_it(tmp_path):
    copy = tmp_path / "copy.db"
    shutil.copy(EXAMPLE, copy)
    before = hashlib.sha256(copy.read_bytes()).digest()
    with served(tmp_path, storage=f"sqlite:///{copy}") as dashboard:
        [listed] = dashboard.get("/api/studies")["study_summaries"]
        assert dashboard.get(f"/api/studies/{listed['study_id']}")["trials"]
    assert hashlib.sha256(copy.read_bytes()).digest() == before
    assert list(tmp_path.iterdir()) == [copy]


@pytest.mark.parametrize(
    ("given", "type_", "shown"),
    [
        ("image/png", "image/png", True),
        ("image/svg+xml", "image/svg+xml", True),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8", True),
        ("text/html", "application/octet-stream", False),
        ("IMAGE/png, text/html", "application/octet-stream", False),
        ("application/xhtml+xml", "application/octet-stream", False),
        ("", "application/octet-stream", False),
    ],
)
@pytest.mark.parametrize("slashes", ["/", "//"])
def test_a_browser_displays_only_pictures_and_plain_text_among_a_trials_files(
    finished, tmp_path, given, type_, shown, slashes
):
    storage, store = finished.database.optuna, FileSystemArtifactStore(tmp_path)
    file = tmp_path / "any"
    file.write_text("<script>alert(1)</script>")
    trial = storage.create_new_trial(finished.study_id)
    name = upload_artifact(
        artifact_store=store,
        file_path=str(file),
        study_or_trial=storage.get_trial(trial),
        storage=storage,
        mimetype=given or None,
    )
    inner = optuna_dashboard.wsgi(storage, artifact_store=store)
    server = make_server(RequestFilter(inner, accepted_names(""), allow_edit=False), "127.0.0.1", 0)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request("GET", f"{slashes}artifacts/{finished.study_id}/{trial}/{name}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, file.read_bytes())
        connection.close()
        server.shutdown()
    headers = {key: answer.headers.get_all(key) for key in answer.headers}
    assert headers["Content-Type"] == [type_]
    assert ("Content-Disposition" in headers) == (not shown)
    assert headers["X-Content-Type-Options"] == ["nosniff"]
    assert "sandbox" in headers["Content-Security-Policy"][0]
    assert "Access-Control-Allow-Origin" not in headers


def test_other_sites_can_neither_frame_nor_read_the_dashboard(dashboard):
    connection = HTTPConnection("127.0.0.1", dashboard.port, timeout=30)
    connection.request("HEAD", "/api/studies")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    connection.close()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/csv/9999999999999999999", 404),
        ("/csv/77", 404),
        ("/api/studies/2147483648", 404),
        (f"/api/studies/{'9' * 1500}", 404),
        ("/api/studies/77/plot/contour", 404),
        ("/api/studies/1?after=x", 400),
        ("/api/studies/1?after=", 400),
        ("/api/studies/1?after=-1", 400),
        ("/api/studies/1?after=99999999999999999999", 400),
        ("/static/../x", 404),
        ("/static/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/static/x%00y", 400),
        ("/static/%ff", 400),
        ("/static/nothing.js", 404),
        ("/artifacts/1/77777777777/x", 404),
        ("/artifacts/1/1/nothing", 404),
        ("/" + "a" * 5000, 414),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(dashboard, path, expected):
    status, body = dashboard.request("GET", path)
    assert (status, "Traceback" in body) == (expected, False)
    if "<!DOCTYPE" not in body:  # Bottle's page, for addresses that lead nowhere
        assert len(body.splitlines()) == 1


def test_a_file_is_served_without_a_word_about_compression(dashboard):
    connection = HTTPConnection("127.0.0.1", dashboard.port, timeout=30)
    connection.putrequest("GET", "/static/bundle.js", skip_accept_encoding=True)
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def test_requests_that_never_end_hold_no_more_threads_than_places(dashboard):
    half_sent = [socket.create_connection(("127.0.0.1", dashboard.port)) for _ in range(600)]
    try:
        for i, connection in enumerate(half_sent):
            connection.sendall(b"GET /api/studies HTTP/1.1\r\nHost: loc"[: 10 + i % 30])
        # The oldest of them make room.
        assert [dashboard.request("GET", "/api/meta")[0] for _ in range(5)] == [200] * 5
        threads = len(list(Path(f"/proc/{dashboard.process.pid}/task").iterdir()))
        assert threads < MAX_CONNECTIONS + 20
    finally:
        for connection in half_sent:
            connection.close()


def test_a_request_that_takes_too_long_is_disconnected(monkeypatch):
    monkeypatch.setattr("schedsearch.report.dashboard_server.REQUEST_TIMEOUT", 0.5)
    with (
        serving(lambda environ, start_response: []) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(b"GET / HT")
        assert connection.recv(100) == b""


def test_a_client_that_reads_an_answer_too_slowly_is_disconnected(monkeypatch):
    monkeypatch.setattr("schedsearch.report.dashboard_server.ANSWER_TIMEOUT", 0.5)
    closed = threading.Event()

    class Endless:
        def __iter__(self):
            while True:
                yield b"x" * 8192

        def close(self):
            closed.set()

    def endless(environ, start_response):
        start_response("200 OK", [])
        return Endless()

    with (
        serving(endless) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(10)
        assert closed.wait(20)


def test_a_connection_without_a_thread_is_refused_and_frees_its_place(monkeypatch):
    monkeypatch.setattr("schedsearch.report.dashboard_server.MAX_CONNECTIONS", 1)

    def fail(*_):
        raise RuntimeError("can't start new thread")

    def fine(environ, start_response):
        start_response("200 OK", [])
        return [b"done"]

    with serving(fine) as port:
        for expected in (b" 503 ", b" 503 ", b" 200 "):
            with monkeypatch.context() as patched:
                if expected == b" 503 ":
                    patched.setattr(ThreadingMixIn, "process_request", fail)
                with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    assert expected in client.recv(1000)


def test_without_a_free_place_a_request_is_refused(monkeypatch):
    monkeypatch.setattr("schedsearch.report.dashboard_server.MAX_CONNECTIONS", 1)
    begun, end = threading.Event(), threading.Event()

    def slow(environ, start_response):
        begun.set()
        end.wait(60)
        start_response("200 OK", [])
        return [b"done"]

    with serving(slow) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as first:
        first.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert begun.wait(30)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as second:
            assert b" 503 " in second.recv(1000)
        end.set()
        assert b"200 OK" in first.recv(1000)


@contextmanager
def serving(app) -> Iterator[int]:
    """Serve an application on a free port, in this process."""
    server = make_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_port_in_use_is_reported_in_one_line(run, study):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("dashboard", "--port", port)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: cannot listen on 127.0.0.1 port {port}: address already in use; "
        "choose others with --host and --port (port 0: any free port)\n"
    )


def test_a_missing_database_is_reported_in_one_line(run, tmp_path):
    done = run("dashboard", "--port", 0)
    assert done.status == 2
    assert done.err.startswith(f"error: {tmp_path / 'studies.db'}: the database does not exist: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
def test_a_browser_shows_the_note_the_plots_and_the_best_trials_picture(
    tmp_path, dashboard, finished
):
    best = finished.complete_trials()[0]
    with browser(tmp_path / "profile") as driver:
        wait = WebDriverWait(driver, 60, ignored_exceptions=[StaleElementReferenceException])

        def wait_for(text: str) -> None:
            wait.until(
                lambda driver: text in driver.find_element(By.TAG_NAME, "body").text,
                f"the page never shows {text!r}",
            )

        def picture_width(driver: WebDriver) -> int:
            images = driver.find_elements(By.CSS_SELECTOR, "img[src*='/artifacts/']")
            return images and driver.execute_script("return arguments[0].naturalWidth", images[0])

        at = f"http://127.0.0.1:{dashboard.port}/dashboard"
        driver.get(at)
        wait_for("small")
        driver.find_element(By.PARTIAL_LINK_TEXT, "small").click()
        wait.until(lambda driver: f"/studies/{finished.study_id}" in driver.current_url)
        wait_for("Best Trial")
        wait_for("Best so far, against the best constant")
        driver.get(f"{at}/studies/{finished.study_id}/note")
        wait_for("schedsearch export small -o best.toml")
        wait_for("best constant")
        driver.get(f"{at}/studies/{finished.study_id}/trials?numbers={best.number}")
        wait_for(f"Trial {best.number} (trial_id={best._trial_id})")
        wait_for(f"trial_{best.number}.png")
        for key in ("plan", "values", "terms"):
            wait_for(key)
        wait.until(lambda driver: picture_width(driver) == 1200, "the picture is not shown")


def test_a_page_is_served_from_the_cache_that_was_filled_at_the_start(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    work(study)
    opened = open_database(url_of(tmp_path))
    warm_cache(opened.optuna)
    with opened.engine.begin() as connection:
        connection.execute(text("DELETE FROM trial_params"))
    found = opened.optuna.get_all_trials(study.study_id)
    assert all(trial.params for trial in found)
