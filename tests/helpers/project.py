"""The place of the project and of its command, and what processes and servers of the tests need."""

import importlib.util
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("gsm8k-grpo")
# In place of the engine of tiny, `graphs`.
TRANSFORMERS = {"engine": "transformers", "train.old_log_probs": "computed"}
# The longest that a command may take.  The packages for a GPU take minutes when they are imported for the first time.
SECONDS = 300 if importlib.util.find_spec("vllm") else 60


def heeding_interrupts() -> None:
    """Let a new process react to signals, even if the tests run in the background of a shell or under nohup.

    These make their processes ignore SIGINT and SIGHUP.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that no process uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on this machine that answers with `handler`, during the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
