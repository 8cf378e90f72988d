"""How to serve: the address, who may send requests, and how long the server waits."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Settings:
    """The options of `fashion-cnn serve`.

    Attributes:
        host: the address to listen on; `::` is every address of IPv6 and IPv4.
        port: 0 takes any free port.
        workers: number of processes; each loads the model.
        token: the bearer token that clients must send, if any.
        origins: other websites whose pages may send requests.
        hosts: names that the header `Host` may have; none allows all.
        root_path: the path under which a proxy shows the server, such as `/clothes`.
        keep_alive: seconds until an idle connection is closed.
        grace: seconds after SIGTERM for running requests to end.
        runtime: as of `Classifier.load`.
        precision: as of `Classifier.load`.

    Raises:
        ValueError: an origin, a host name or a path that can never match.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    root_path: str = ""
    keep_alive: int = 75
    grace: int = 20
    runtime: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for origin in self.origins:
            _check_origin(origin)
        for host in self.hosts:
            if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:]+", host):  # a name, or IPv6
                raise ValueError(
                    f"--allow-host: got {host!r}; expected a lowercase name without port "
                    "and path, such as photos.example"
                )
        path = self.root_path
        if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
            raise ValueError(
                f"--root-path: got {path!r}; expected a path that begins with a slash and does "
                "not end with one, such as /clothes"
            )


def ignore_early_reload() -> None:
    """Ignore SIGHUP, which asks for a reload, until the server is ready for it."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def read_token(path: Path) -> str:
    """The token in a file, which has one line without spaces."""
    token = path.read_text(encoding="utf-8-sig").strip(" \t\r\n")
    if not token:
        raise ValueError(f"{path}: empty; expected a token")
    if not token.isprintable() or " " in token:
        lines = len(token.splitlines())
        got = f"{lines} lines" if lines > 1 else "spaces or control characters"
        raise ValueError(f"{path}: got {got}; expected a single line of letters and digits")
    return token


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    is_origin = parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" == origin
    if origin != "*" and not (is_origin and parts.hostname and origin == origin.lower()):
        expected = "lowercase scheme, name and port, without a path or a slash at the end"
        raise ValueError(
            f"--allow-origin: got {origin!r}; expected {expected}, such as https://shop.example"
        )
