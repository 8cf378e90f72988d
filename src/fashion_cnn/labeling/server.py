"""Serve the page on which people decide about labels."""

import signal
from functools import partial

from fashion_cnn.console import UsageError, print_message
from fashion_cnn.labeling.app import make_label_app
from fashion_cnn.labeling.log import DecisionLog
from fashion_cnn.labeling.session import LabelSession
from fashion_cnn.labeling.task import Task
from fashion_cnn.machine import LOOPBACK_HOSTS
from fashion_cnn.serving.server import address_of, make_config, open_listener, run_alone
from fashion_cnn.serving.settings import Settings


def serve_labels(task: Task, log: DecisionLog, settings: Settings, blind: bool = False) -> None:
    """Serve a task until SIGTERM or Ctrl-C.

    Args:
        task: the pictures.
        log: where decisions go.
        settings: of the server; `host`, `port` and `token` count.
        blind: whether labels and the model's predictions are hidden. Default: False.

    Raises:
        OSError: the server cannot listen on the address.
    """
    listener = open_listener(settings)
    session = LabelSession(task, log)
    signal.set_wakeup_fd(-1)  # from here on uvicorn's event loop handles signals
    config = make_config(partial(make_label_app, session, settings, blind), settings)
    url = address_of(listener, settings)
    print_message(f"Label at {url} (press Ctrl-C to stop); decisions go to {log.path}")
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
