"""A run on generated problems connects to nobody, nor does MLflow's interface."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from gsm8k_grpo import TELEMETRY_OFF
from mlflow_ui import PATIENCE, interface
from project import serving
from small_run import TRAIN, run, snakemake, workflow

PORT = 5003  # that of `make ui` may be in use beside it
# Where one of these is set, libraries take the run for a test and report nothing anyway.
OF_TESTS = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "HF_HUB_OFFLINE", "DO_NOT_TRACK")


@contextmanager
def asked(**given: str) -> Iterator[list[str]]:
    """The addresses that processes ask for; they are told of a proxy here and of no test, and `given` variables."""
    found: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            found.append(self.path)
            self.send_error(403)

        do_CONNECT = do_GET = do_HEAD = do_POST = refuse  # noqa: N815 (the names are the library's)

        def log_message(self, *parts) -> None:
            """Not on the terminal."""

    with serving(Proxy) as address, pytest.MonkeyPatch.context() as environment:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            environment.setenv(name, address)
        for name in ("NO_PROXY", "no_proxy", *OF_TESTS, *TELEMETRY_OFF):
            environment.delenv(name, raising=False)
        for name, value in given.items():
            environment.setenv(name, value)
        yield found


def test_a_run_of_the_whole_pipeline_connects_to_nobody(tmp_path):
    with asked() as addresses:
        process = snakemake(workflow(tmp_path), "report")
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert addresses == []


def test_who_wants_libraries_to_report_can_have_it(folder):
    with asked(HF_HUB_DISABLE_TELEMETRY="0", MLFLOW_DISABLE_TELEMETRY="false") as addresses:
        run(folder, TRAIN)
    assert {address.partition(":")[0] for address in addresses} == {"huggingface.co", "config.mlflow-telemetry.io"}


def test_the_interface_of_mlflow_connects_to_nobody(tmp_path):
    with asked() as addresses, interface(tmp_path, PORT):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        told = direct.open(f"http://127.0.0.1:{PORT}/ajax-api/3.0/mlflow/ui-telemetry", timeout=PATIENCE).read()
    assert b'"disable_ui_telemetry":true' in told.replace(b" ", b"")
    assert addresses == []
