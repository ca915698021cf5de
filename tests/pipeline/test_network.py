"""Neither a run on generated problems nor MLflow's interface connects to another machine."""

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from gsm8k_grpo import TELEMETRY_OFF
from mlflow_ui import PATIENCE, interface
from project import serving
from small_run import TRAIN, command, snakemake, workflow

PORT = 5003  # `make ui` may be using its own port
# If one of these is set, libraries take the run for a test and send no telemetry anyway.
OF_TESTS = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "HF_HUB_OFFLINE", "DO_NOT_TRACK")


@contextmanager
def requested_addresses(**variables: str) -> Iterator[list[str]]:
    """The addresses that processes request during the block, through a proxy that refuses every request.

    `variables` are added to the environment, and those of OF_TESTS are removed.
    """
    addresses: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            addresses.append(self.path)
            self.send_error(403)

        do_CONNECT = do_GET = do_HEAD = do_POST = refuse  # noqa: N815 (the names are the library's)

        def log_message(self, *parts) -> None:
            """Print nothing."""

    with serving(Proxy) as address, pytest.MonkeyPatch.context() as environment:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            environment.setenv(name, address)
        for name in ("NO_PROXY", "no_proxy", *OF_TESTS, *TELEMETRY_OFF):
            environment.delenv(name, raising=False)
        for name, value in variables.items():
            environment.setenv(name, value)
        yield addresses


def test_a_run_of_the_whole_pipeline_connects_to_no_other_machine(tmp_path):
    with requested_addresses() as addresses:
        process = snakemake(workflow(tmp_path), "report")
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert addresses == []


def test_telemetry_of_the_libraries_can_be_turned_on(folder):
    with requested_addresses(HF_HUB_DISABLE_TELEMETRY="0", MLFLOW_DISABLE_TELEMETRY="false") as addresses:
        # In a new process, as the libraries read the variables at their import.
        subprocess.run(command(TRAIN), cwd=folder, capture_output=True, check=True)
    assert {address.partition(":")[0] for address in addresses} == {"huggingface.co", "config.mlflow-telemetry.io"}


def test_the_interface_of_mlflow_connects_to_no_other_machine(tmp_path):
    with requested_addresses() as addresses, interface(tmp_path, PORT):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        settings = direct.open(f"http://127.0.0.1:{PORT}/ajax-api/3.0/mlflow/ui-telemetry", timeout=PATIENCE).read()
    assert b'"disable_ui_telemetry":true' in settings.replace(b" ", b"")
    assert addresses == []
