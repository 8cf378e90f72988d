"""`serve`: a model behind HTTP."""

from fashion_cnn.cli import options as opt
from fashion_cnn.console import print_message
from fashion_cnn.machine import LOOPBACK_HOSTS


def serve(
    model: opt.ModelArgument = "photo",
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8000,
    workers: opt.Workers = None,
    token: opt.TokenFile = None,
    origins: opt.Origins = None,
    cluster: opt.Cluster = None,
) -> None:
    """Predict over HTTP: the Open Inference Protocol, photos, and a page to try it at."""
    secret = token.read_text(encoding="utf-8").strip() if token else None
    if secret == "":
        raise ValueError(f"{token}: empty; expected a token")
    if host not in LOOPBACK_HOSTS and secret is None:
        print_message(
            f"Warning: anybody who can reach {host} can send requests; --token-file PATH "
            "restricts them"
        )
    if cluster:
        from fashion_cnn.serving.cluster import serve_on

        serve_on(cluster, model, host, port, workers, secret, origins or ())
        return
    from fashion_cnn.serving.server import serve as start

    start(model, host, port, workers or 1, secret, origins or ())
