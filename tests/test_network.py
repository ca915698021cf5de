"""A run on generated problems connects to nobody; every address that the stages ask for comes to a proxy here."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT
from gsm8k_grpo import UNREPORTED
from stages import TRAIN, run, snakemake, workflow

PATIENCE = 60  # seconds
PORT = "5003"
# Where one of these is set, libraries take the run for a test and report nothing anyway.
OF_TESTS = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "HF_HUB_OFFLINE", "DO_NOT_TRACK")


@pytest.fixture
def asked(monkeypatch) -> Iterator[list[str]]:
    """The addresses that processes started from here have asked for."""
    found: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            found.append(self.path)
            self.send_error(403)

        do_CONNECT = do_GET = do_HEAD = do_POST = refuse  # noqa: N815 (the names are the library's)

        def log_message(self, *parts) -> None:
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy", *UNREPORTED):
        monkeypatch.delenv(name, raising=False)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def untested(monkeypatch) -> Callable[[], None]:
    """Takes what tells of tests out of the environment; pytest puts its own in again before it calls a test."""

    def leave() -> None:
        for name in OF_TESTS:
            monkeypatch.delenv(name, raising=False)

    return leave


def test_a_run_of_the_whole_pipeline_connects_to_nobody(tmp_path, asked, untested):
    untested()
    process = snakemake(workflow(tmp_path), "report")
    told, _ = process.communicate()
    assert process.returncode == 0, told
    assert asked == []


def test_who_wants_libraries_to_report_can_have_it(folder, asked, untested, monkeypatch):
    untested()
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    run(folder, TRAIN)
    assert {address.partition(":")[0] for address in asked} == {"huggingface.co", "config.mlflow-telemetry.io"}


def test_the_interface_of_mlflow_connects_to_nobody(tmp_path, asked, untested):
    untested()
    told = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", "ui"], cwd=ROOT, capture_output=True, text=True
    )
    command = told.stdout.splitlines()[-1].replace(str(ROOT / "tracking"), str(tmp_path)).replace("5000", PORT)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, start_new_session=True
    )
    try:
        assert b'"disable_ui_telemetry":true' in settings_of_the_interface(server).replace(b" ", b"")
        assert asked == []
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def settings_of_the_interface(server: subprocess.Popen) -> bytes:
    """What MLflow's page is told of reporting, once the server is up."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return direct.open(f"http://127.0.0.1:{PORT}/ajax-api/3.0/mlflow/ui-telemetry", timeout=PATIENCE).read()
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
