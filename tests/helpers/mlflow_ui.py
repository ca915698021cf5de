"""MLflow's interface as `make ui` starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from project import ROOT

PATIENCE = 180  # seconds; under load the server takes a minute to start


def listening(port: int) -> set[str]:
    """The addresses on which something listens at the port."""
    connections = psutil.net_connections("inet")
    return {entry.laddr.ip for entry in connections if entry.status == psutil.CONN_LISTEN and entry.laddr.port == port}


@contextmanager
def interface(folder: Path, port: int) -> Iterator[None]:
    """Run the command of `make ui` in a folder and on a port; the block starts when it listens."""
    assert not listening(port), f"port {port} is taken"
    dry_run = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", "ui"], cwd=ROOT, capture_output=True, text=True
    )
    command = dry_run.stdout.splitlines()[-1]
    assert "mlflow ui" in command
    assert "--port 5000" in command
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        command.replace("--port 5000", f"--port {port}"),
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not listening(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
