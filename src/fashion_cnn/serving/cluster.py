"""The same service on the machines of a Ray cluster: as many replicas as the load asks for."""

import signal
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_cnn.console import print_message, silence_stderr
from fashion_cnn.inference.classifier import Classifier, model_name
from fashion_cnn.parallel.cluster import cluster

APP = "fashion-cnn"
REQUESTS = 256  # at a time to a replica, whose own line refuses what would wait for too long
# with more than eight of them there will be another replica
SCALING = {"target_ongoing_requests": 8, "upscale_delay_s": 5, "metrics_interval_s": 2}
LOOPBACK = ("127.0.0.1", "localhost")


def serve_on(
    address: str,
    model: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int | None = None,
    token: str | None = None,
    origins: Sequence[str] = (),
) -> None:
    """Serve a model on a cluster until SIGTERM or Ctrl-C; then it is taken off again.

    Args:
        address: of the cluster.
        model: what `Classifier.load` takes, on this machine.
        host: the address to listen at: loopback of the head, or of all machines.
        port: on each of them.
        replicas: at most, a core each; as many as there are cores without.
        token: what clients have to show, if anything.
        origins: pages elsewhere that may ask.

    Raises:
        FileNotFoundError, ValueError: no model, none that is valid, or no such cluster.
        RuntimeError: no replica came up.
    """
    if not port:
        raise ValueError("port: got 0; expected one of 1 to 65535 on a cluster")
    content, name = Classifier.load(model, threads=1).content, model_name(model)
    with cluster(address) as ray:
        from ray import serve
        from ray.exceptions import RayTaskError

        with silence_stderr():
            others = list(serve.status().applications)
        if others:
            raise ValueError(
                f"cluster {address}: already serves {', '.join(others)}; end that where it was "
                "begun, or, if it was killed there, by Ray's own `serve shutdown`"
            )
        there, free = (
            x.get("CPU", 0) for x in (ray.cluster_resources(), ray.available_resources())
        )
        if free < 1:
            raise ValueError(f"cluster {address}: none of its {there:g} cores is free")

        def app() -> Any:  # on each replica
            return _app(name, content, token, origins)

        scaling = {"min_replicas": 1, "max_replicas": replicas or int(there)}
        deployment: Any = serve.deployment(
            serve.ingress(app)(),
            name=APP,
            ray_actor_options={"num_cpus": 1},
            max_ongoing_requests=REQUESTS,
            max_queued_requests=REQUESTS,
            autoscaling_config={**scaling, **SCALING},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        ended = threading.Event()
        try:
            with silence_stderr():
                serve.shutdown()  # what runs without an application would keep its own address
                where = "HeadOnly" if host in LOOPBACK else "EveryNode"
                serve.start(proxy_location=where, http_options={"host": host, "port": port})
                serve.run(deployment.bind(), name=APP, route_prefix="/")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: ended.set())
            signal.set_wakeup_fd(-1)  # from here on an end takes its time
            print_message(f"Serving {name} on {address}, {host}:{port} (Ctrl-C ends it)")
            ended.wait()
        except RayTaskError as error:  # its text is another process's whole trace
            why = f"cluster {address}: not served at {host}:{port} ({error.cause})"
            raise RuntimeError(why) from None
        finally:
            with silence_stderr():
                serve.shutdown()


def _app(name: str, content: bytes, token: str | None, origins: Sequence[str]) -> Any:
    """The application, of a model that comes with it."""
    from ray import serve

    from fashion_cnn.serving.app import make_app
    from fashion_cnn.serving.state import Service

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(content)
        replica = serve.get_replica_context().replica_id.unique_id
        return make_app(Service(str(path), replica=replica), token, origins)
