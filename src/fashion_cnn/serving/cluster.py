"""The server on the machines of a Ray cluster, with as many replicas as the load requires."""

import signal
import threading
from typing import Any

from fashion_cnn.console import WAIT_SECONDS, print_message, silence_stderr
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.machine import LOOPBACK_HOSTS
from fashion_cnn.parallel.cluster import cluster
from fashion_cnn.serving.app import make_app
from fashion_cnn.serving.metrics import Metrics
from fashion_cnn.serving.settings import Settings
from fashion_cnn.serving.state import (
    ServerState,
    collect_garbage_rarely,
    load_model,
    served_name,
)

APP = "fashion-cnn"
MAX_REQUESTS = 256  # running on one replica, and queued for all; each replica refuses overload
SCALING = {
    "min_replicas": 1,
    "target_ongoing_requests": 8,  # per replica; with more another replica is started
    "upscale_delay_s": 5,
    "metrics_interval_s": 2,
}


def serve_on(address: str, model: str, settings: Settings, replicas: int | None) -> None:
    """Serve a model on a cluster until SIGTERM or Ctrl-C, then remove it from the cluster.

    Args:
        address: of the cluster.
        model: what `Classifier.load` takes, on this machine.
        settings: the options of the server. On a loopback address only the head node listens; else
            every node. Ray has its own workers, keep-alive and grace.
        replicas: most replicas, each on one core. Default: one per core of the cluster.

    Raises:
        FileNotFoundError, ValueError: no such model or cluster, or an invalid one.
        RuntimeError: no replica started.
    """
    host, port = settings.host, settings.port
    if not port:
        raise ValueError("port: got 0; expected 1 to 65535 on a cluster")
    content, name = load_model(model, settings).content, served_name(model)
    with cluster(address) as ray:
        from ray import serve
        from ray.exceptions import RayTaskError

        cores = _require_idle(ray, address)

        def replica_app() -> Any:
            replica = serve.get_replica_context().replica_id.unique_id
            classifier = Classifier(content, name, 1, settings.runtime, settings.precision)
            metrics = Metrics(replica=replica)
            collect_garbage_rarely()
            return make_app(ServerState(name, classifier, metrics), settings)

        deployment: Any = serve.deployment(
            serve.ingress(replica_app)(),
            name=APP,
            ray_actor_options={"num_cpus": 1},
            max_ongoing_requests=MAX_REQUESTS,
            max_queued_requests=MAX_REQUESTS,
            autoscaling_config={**SCALING, "max_replicas": replicas or cores},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        try:
            with silence_stderr():
                serve.shutdown()  # Ray Serve without applications would keep its old address
                location = "HeadOnly" if host in LOOPBACK_HOSTS else "EveryNode"
                serve.start(proxy_location=location, http_options={"host": host, "port": port})
                serve.run(deployment.bind(), name=APP, route_prefix="/")
            _wait_for_signal(f"Serving {name} on {address}, {host}:{port} (press Ctrl-C to stop)")
        except RayTaskError as error:  # its message is another process's whole traceback
            reason = f"cluster {address}: not served at {host}:{port} ({error.cause})"
            raise RuntimeError(reason) from None
        finally:
            with silence_stderr():
                serve.shutdown()


def _require_idle(ray: Any, address: str) -> int:
    """The cluster's number of cores; ValueError if it serves already, or if no core is free."""
    from ray import serve

    with silence_stderr():
        running = list(serve.status().applications)
    if running:
        raise ValueError(
            f"cluster {address}: already serves {', '.join(running)}; stop that command, or, if "
            "it was killed, run Ray's `serve shutdown` where it was started"
        )
    cores = int(ray.cluster_resources().get("CPU", 0))
    if ray.available_resources().get("CPU", 0) < 1:
        raise ValueError(f"cluster {address}: none of its {cores} cores is free")
    return cores


def _wait_for_signal(message: str) -> None:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    signal.set_wakeup_fd(-1)  # or the command line ends the process after 1.5 s
    print_message(message)
    while not stopped.wait(WAIT_SECONDS):
        pass
