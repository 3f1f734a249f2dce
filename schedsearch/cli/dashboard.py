"""`schedsearch dashboard`: optuna-dashboard for the studies of a storage."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, database_at


@app.command()
def dashboard(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0 for any free port.", min=0, max=65535)
    ] = 8080,
    allow_edit: Annotated[
        bool, typer.Option("--allow-edit", help="Let the browser edit notes and delete studies.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Serve optuna-dashboard for the studies of a storage.

    It runs until Ctrl-C, which is its normal end: the exit status is 0. It is read-only by default.
    """
    from schedsearch.report.dashboard import (
        ThreadSafeStorage,
        is_loopback,
        make_app,
        warm_cache,
    )
    from schedsearch.report.dashboard_artifacts import picture_store
    from schedsearch.report.dashboard_server import make_server, url_of

    database = database_at(storage)
    studies = ThreadSafeStorage(database)
    application = make_app(studies, picture_store(database), host, allow_edit=allow_edit, warn=say)
    server = make_server(application, host, port)
    if allow_edit or not is_loopback(host):
        users = (
            "every user of this machine" if is_loopback(host) else f"everyone who can reach {host}"
        )
        rights = "change and delete" if allow_edit else "read"
        say(f"warning: there is no password: {users} can {rights} every study")

    def stop(*_: object) -> None:
        # No exception: it could be raised in code that swallows it.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    threading.Thread(target=warm_cache, args=(studies,), daemon=True).start()
    with server:
        say(f"{database.display_url}: {url_of(server)} (Ctrl-C stops it)")
        server.serve_forever()
        say("stopped")
