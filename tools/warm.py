"""Start stages from a process that has their libraries: to import them takes seconds, to fork milliseconds.

    python -I tools/warm.py serve PID         tools/dvc starts it for the DVC with that process id, with which it ends
    python -IS tools/warm.py run PID STAGE    stages/run calls it: STAGE runs as `python -m stages.STAGE` does

The server imports the libraries once, for the first stage that has a model; a run without such a stage waits for
nothing. It serves on Linux, and not where there is a GPU: a fork cannot use CUDA once a library has asked for it, as
some do on import. Without a server `run` becomes the stage itself.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

# What takes long to import. Nothing of the project's: an experiment may have a version of its own.
LIBRARIES = ("torch", "transformers.modeling_utils", "transformer_lens.model_bridge", "scipy.stats")
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
PR_SET_PDEATHSIG = 1  # sys/prctl.h
LARGEST = 2**17  # bytes of a request


def serve(dvc: int) -> None:
    """Fork for each request, until the system ends this process because its parent, DVC, is gone."""
    if sys.platform != "linux" or any(Path(gpu).exists() for gpu in GPUS):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.close(os.pidfd_open(dvc))
    except OSError:  # DVC is gone already, or the system is older than Linux 5.3
        return
    if os.getppid() != dvc:
        return
    gc.disable()  # as in stages/__init__.py
    with seqpacket() as door, selectors.DefaultSelector() as events:
        door.bind(address(dvc))
        door.listen()
        events.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is door:
                    if started := admit(door):
                        events.register(os.pidfd_open(started[0]), selectors.EVENT_READ, started)
                else:
                    events.unregister(key.fd)
                    os.close(key.fd)
                    see_off(*key.data)


def admit(door: socket.socket) -> tuple[int, socket.socket] | None:
    """Fork for a client: the fork's process id, and the client. None for another user's, or one that is gone."""
    client, _ = door.accept()
    mine = user_of(client) == os.getuid()
    message, descriptors, *_ = socket.recv_fds(client, LARGEST, 3) if mine else (b"", [])
    if not message:
        client.close()
        return None
    request = json.loads(message)
    if LIBRARIES[-1] not in sys.modules and has_model(request):
        with suppress(ImportError):  # the stage will say it
            for library in LIBRARIES:
                importlib.import_module(library)
    gc.freeze()  # none of it is garbage, in any fork
    if (pid := os.fork()) == 0:
        become(request, descriptors, client)
    for each in descriptors:
        os.close(each)
    return pid, client


def has_model(request: dict[str, Any]) -> bool:
    """Whether the stage reads or writes data/model and uses the package's models, by the file that DVC has it from."""
    import yaml

    file, _, name = request["environment"].get("DVC_STAGE", "").rpartition(":")
    try:
        stage = yaml.safe_load(Path(request["folder"], file or "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    except (OSError, LookupError, TypeError, yaml.YAMLError):
        return False
    return {"data/model", "src/permeation/models"} <= {*stage["deps"], *map(str, stage["outs"])}


def become(request: dict[str, Any], descriptors: list[int], client: socket.socket) -> NoReturn:
    """Run the stage in this fork with the client's folder, environment, terminal and answer to Ctrl-C, and exit."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.SIG_IGN if request["deaf"] else signal.default_int_handler)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(Path.cwd()), *(str(Path(path).absolute()) for path in paths if path)]
    from permeation.frame.signals import end_after

    end_after(lambda: client.recv(1))  # which gives nothing until the client is gone
    sys.argv = ["-m"]  # what stands there while Python looks for the module that it is to run
    runpy.run_module(f"stages.{request['stage']}", run_name="__main__", alter_sys=True)
    sys.exit(0)


def see_off(pid: int, client: socket.socket) -> None:
    """Tell the client how its stage has ended."""
    _, status = os.waitpid(pid, 0)
    with client, suppress(OSError):  # it may be gone
        client.send(struct.pack("i", os.waitstatus_to_exitcode(status)))


def run(dvc: int, stage: str) -> NoReturn:
    """Have the server run the stage, and end as it ends; without a server, become the stage."""
    if (server := ask(dvc, stage)) is None:
        os.execvp("python", ["python", "-m", f"stages.{stage}"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage hears it and leaves in order
    answer = b""
    with suppress(ConnectionResetError):
        answer = server.recv(4)
    if not answer:
        sys.exit(f"{stage}: the server of tools/warm.py is gone")
    (code,) = struct.unpack("i", answer)
    sys.exit(code if code >= 0 else 128 - code)


def ask(dvc: int, stage: str) -> socket.socket | None:
    """Send the request; None where no server of this user listens, or the request is too large."""
    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    request = {"stage": stage, "folder": str(Path.cwd()), "environment": dict(os.environ), "deaf": deaf}
    message = json.dumps(request).encode()
    with suppress(OSError):
        server = seqpacket()
        server.connect(address(dvc))
        if user_of(server) == os.getuid() and len(message) <= LARGEST:
            socket.send_fds(server, [message], [0, 1, 2])
            return server
    return None


def seqpacket() -> socket.socket:
    """A socket of this machine on which messages stay whole."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def address(dvc: int) -> str:
    """In Linux's abstract namespace: no file is left behind."""
    return f"\0semantic-permeation-{dvc}"


def user_of(peer: socket.socket) -> int:
    """The user id of the process at the other end."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


if __name__ == "__main__":
    what, dvc, *stage = sys.argv[1:]
    serve(int(dvc)) if what == "serve" else run(int(dvc), *stage)
