"""`schedsearch dashboard`: optuna-dashboard on a storage."""

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
    port: Annotated[int, typer.Option(help="0 takes any free one.", min=0, max=65535)] = 8080,
    allow_edit: Annotated[
        bool, typer.Option("--allow-edit", help="Let the browser write notes, and delete studies.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Serve optuna-dashboard on the studies of a storage, to read only, until Ctrl-C."""
    from schedsearch.report.dashboard import (
        SharedReading,
        is_loopback,
        make_app,
        make_server,
        url_of,
        warm,
    )
    from schedsearch.report.dashboard_artifacts import picture_store

    opened = database_at(storage)
    studies = SharedReading(opened)
    application = make_app(studies, picture_store(opened), host, allow_edit=allow_edit)
    server = make_server(application, host, port)
    if allow_edit or not is_loopback(host):
        who = "every user of this machine" if is_loopback(host) else f"whoever reaches {host}"
        may = "change and delete" if allow_edit else "read"
        say(f"warning: there is no password: {who} can {may} every study")

    def end(*_: object) -> None:
        # Not by an exception, which could be raised where nobody hands it on.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    threading.Thread(target=warm, args=(studies,), daemon=True).start()
    with server:
        say(f"{opened.shown}: {url_of(server)} (Ctrl-C ends)")
        server.serve_forever()
        say("ended")
