"""`make ui`: MLflow's interface comes up, on this machine's own address alone."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
from conftest import ROOT

PORT = 5000
PATIENCE = 60  # seconds


def listening() -> set[str]:
    """Addresses that the port is open on."""
    found = psutil.net_connections("inet")
    return {entry.laddr.ip for entry in found if entry.status == psutil.CONN_LISTEN and entry.laddr.port == PORT}


def test_the_interface_listens_on_this_machine_alone(tmp_path):
    assert not listening(), f"port {PORT} is taken"
    told = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", "ui"], cwd=ROOT, capture_output=True, text=True
    )
    command = told.stdout.splitlines()[-1].replace(str(ROOT / "tracking"), str(tmp_path))
    assert "mlflow ui" in command
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, start_new_session=True
    )
    try:
        end = time.monotonic() + PATIENCE
        while not listening():
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        assert listening() == {"127.0.0.1"}
        assert b"MLflow" in urllib.request.urlopen(f"http://127.0.0.1:{PORT}", timeout=PATIENCE).read()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
