"""Serve the page on which people decide about labels."""

import signal
import socket
from functools import partial

from fashion_cnn.console import UsageError, print_message
from fashion_cnn.labeling.app import make_label_app
from fashion_cnn.labeling.session import LabelSession
from fashion_cnn.machine import LOOPBACK_HOSTS
from fashion_cnn.serving.server import address_of, make_config, run_alone
from fashion_cnn.serving.settings import Settings


def serve_labels(session: LabelSession, settings: Settings, listener: socket.socket) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        session: the task and its decisions.
        settings: of the server; `host`, `port` and `token` count.
        listener: what `open_listener` returned.
    """
    signal.set_wakeup_fd(-1)  # from here on uvicorn's event loop handles signals
    config = make_config(partial(make_label_app, session, settings), settings)
    url = address_of(listener, settings)
    print_message(f"Label at {url} (press Ctrl-C to stop); decisions go to {session.log.path}")
    run_alone(config, listener)


def label_settings(host: str, port: int, token: str | None) -> Settings:
    """The settings of the server; on loopback it answers only to names of this machine.

    Raises:
        UsageError: others can reach the address, and there is no token.
    """
    if host in LOOPBACK_HOSTS:
        return Settings(host=host, port=port, token=token, hosts=tuple(sorted(LOOPBACK_HOSTS)))
    if token is None:
        raise UsageError(f"--host {host}: others could decide; give --token-file PATH as well")
    return Settings(host=host, port=port, token=token)
