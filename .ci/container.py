"""Run the steps of the Dockerfile without a container engine, and use what they make.

    make container

Each stage of the Dockerfile gets a root folder of its own, where this machine's system, read-only,
and its Python stand for the base image. The last stage then starts as the Dockerfile's user on a
read-only root, in a network of its own; its health check passes, and it classifies one photo.
Needs Linux, root, and the right to make namespaces.
"""

import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from drawn import COLORS, garment
from serving_client import JPEG, request_json

ROOT = Path(__file__).parents[1]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", sys.base_prefix)  # read-only
KERNEL = ("/proc", "/dev")
PYTHON = "/base"  # the base image's Python: an environment made of this machine's
PATH = f"{PYTHON}/bin:/usr/bin:/bin"
# of this machine, for pip: an engine would also pass on the network and its certificates
PASSED = ("PIP_", "SSL_", "http", "HTTP", "no_proxy", "NO_PROXY")
SET_FLAGS, UP = 0x8914, 1  # SIOCSIFFLAGS, IFF_UP
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
READY_SECONDS, STOP_SECONDS = 30, 25


@dataclass
class Stage:
    """A stage: its root folder, and what the instructions so far have set."""

    root: Path
    folder: str = "/"
    user: str = "0:0"
    variables: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)  # ENTRYPOINT, CMD, HEALTHCHECK


def read_instructions(path: Path) -> list[list[str]]:
    """The instructions of a Dockerfile, each its name and the rest."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]


def in_stage(stage: Stage, words: list[str], read_only: bool = False) -> list[str]:
    """The command that runs another one in a stage, as its user, in its folder."""
    root = shlex.quote(str(stage.root))
    script = ["set -e", f"mount --bind {root} {root}"]
    for source in dict.fromkeys((*SYSTEM, *KERNEL)):
        if os.path.exists(source):
            script += [f"mkdir -p {root}{source}", f"mount --rbind {source} {root}{source}"]
            if source in SYSTEM:
                script.append(f"mount -o remount,bind,ro {root}{source}")
    if read_only:
        script.append(f"mount -o remount,bind,ro {root}")
    user, group = stage.user.split(":")
    call = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *words]
    inside = f"cd {shlex.quote(stage.folder)} && exec {shlex.join(call)}"
    script.append(f"exec /usr/sbin/chroot {root} /bin/sh -c {shlex.quote(inside)}")
    variables = {k: v for k, v in os.environ.items() if k.startswith(PASSED)}
    variables |= {"PATH": PATH, "HOME": "/"} | stage.variables
    environment = [f"{name}={value}" for name, value in variables.items()]
    return ["unshare", "--mount", "env", "-i", *environment, "/bin/sh", "-c", "\n".join(script)]


def run(stage: Stage, words: list[str]) -> None:
    print("  RUN", shlex.join(words)[:90], flush=True)
    done = subprocess.run(in_stage(stage, words), text=True, capture_output=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def begin_stage(root: Path) -> Stage:
    """A stage of the base image: this machine's system and a Python with pip."""
    root.mkdir()
    root.chmod(0o755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    stage = Stage(root)
    python = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    run(stage, [python, "-m", "venv", PYTHON])
    return stage


def copy(stage: Stage, words: list[str], stages: dict[str, Stage]) -> None:
    """COPY, from the build context, as .dockerignore leaves it, or from another stage."""
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    *names, target = words
    folder = stage.root / os.path.join(stage.folder, target).lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if source == ROOT and f"!{name}" not in allowed:
            raise SystemExit(f"COPY {name}: .dockerignore leaves it out")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, folder, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)


def build(folder: Path) -> Stage:
    """Run the Dockerfile; return the last stage."""
    stages: dict[str, Stage] = {}
    for name, rest in read_instructions(ROOT / "Dockerfile"):
        if name == "FROM":
            print(name, rest, flush=True)
            stage = begin_stage(folder / str(len(stages)))
            stages[rest.split()[-1]] = stage
        elif name == "RUN":
            run(stage, ["/bin/sh", "-c", rest])
        elif name == "COPY":
            copy(stage, rest.split(), stages)
        elif name == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "ENV":
            for word in shlex.split(rest):
                key, value = word.split("=", 1)
                stage.variables[key] = value.replace("$PATH", PATH)
        elif name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            stage.commands[name] = json.loads(rest[rest.index("[") :])
        elif name != "EXPOSE":
            raise SystemExit(f"{name}: not known to {Path(__file__).name}")
    return stage


def enter_new_network() -> None:
    """Move this process to a network of its own, which has nothing but loopback."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "unshare: no new network")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))


def use(image: Stage) -> None:
    """Start the image as an engine would, with a read-only root; classify a photo."""
    enter_new_network()
    touch = in_stage(image, ["touch", "/tmp/file"], read_only=True)  # noqa: S108
    if not subprocess.run(touch, capture_output=True).returncode:  # noqa: S603
        raise SystemExit("the root is not read-only")
    start = time.perf_counter()
    words = image.commands["ENTRYPOINT"] + image.commands["CMD"]
    server = subprocess.Popen(in_stage(image, words, read_only=True))  # noqa: S603
    try:
        check = in_stage(image, image.commands["HEALTHCHECK"], read_only=True)
        while subprocess.run(check, capture_output=True).returncode:  # noqa: S603
            if server.poll() is not None or time.perf_counter() - start > READY_SECONDS:
                raise SystemExit("the server is not ready")
            time.sleep(0.1)
        print(f"ready after {time.perf_counter() - start:.1f} s", flush=True)
        facts = Path(f"/proc/{server.pid}/status").read_text()
        user = re.findall(r"^Uid:\s+(\d+)", facts, re.M)[0]
        if user != image.user.split(":")[0]:
            raise SystemExit(f"runs as user {user}; expected {image.user}")
        print(f"user {user}, read-only root", flush=True)
        photo = image.root.parent / "shirt.jpg"
        garment("T-shirt", COLORS[1]).save(photo)
        port = int(image.variables["FASHION_CNN_LISTEN"])
        status, answer = request_json(port, "POST", "/predict", photo.read_bytes(), JPEG)
        if answer.get("label") != "T-shirt":
            raise SystemExit(f"POST /predict: status {status}, {answer}; expected T-shirt"[:300])
        print("POST /predict:", answer["label"])
        server.terminate()
        if status := server.wait(STOP_SECONDS):
            raise SystemExit(f"stopped with status {status}")
    finally:
        server.kill()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = build(Path(folder))
        size = sum(p.lstat().st_size for p in (image.root / "opt").rglob("*") if p.is_file())
        print(f"/opt/fashion-cnn: {size / 1e6:.0f} MB")
        use(image)


if __name__ == "__main__":
    main()
