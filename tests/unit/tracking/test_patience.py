"""A tracking store that does not answer causes one short wait and one message, and is tried again much later."""

import socket
import time
from collections.abc import Iterator

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.tracking import patience
from gsm8k_grpo.tracking.mlflow_runs import Run, running
from project import ROOT


@pytest.fixture
def silent_server(monkeypatch) -> Iterator[str]:
    """The address of a server that accepts connections and never answers; a request waits a second for it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def run_in(store: str, strict: bool = False) -> Run:
    return Run(params.load(ROOT / "params.yaml", {"tracking.uri": store}), "short", "short-0123456789ab", strict=strict)


def rows(last: int) -> list[dict[str, float | int | None]]:
    return [{"step": step, "reward": 0.5} for step in range(1, last + 1)]


def test_twelve_steps_wait_once_for_a_server_that_never_answers_and_the_cause_is_said(
    silent_server, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with running(run_in(silent_server)) as run:
        run.log_params({"seed": 42})
        for step in range(1, 13):
            run.log_curves(rows(step))
    run_in(silent_server).set_status("FINISHED")  # of another model, in the same process
    assert time.monotonic() - began < 3
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("tracking: MLflow can't be reached (timed out); the stage continues")
    assert "`gsm8k-grpo track`" in said


def test_what_must_reach_the_store_asks_again_and_fails_with_the_cause(silent_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    patience.patience(silent_server).waited(60)
    with pytest.raises(PipelineError, match=r"MLflow can't be reached \(timed out\)"):
        run_in(silent_server, strict=True).set_status("FINISHED")


def test_a_server_that_is_away_is_named_by_the_cause(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(PipelineError, match=r"\(\[Errno 111\] Connection refused\)"):
        run_in(address, strict=True).set_status("FINISHED")


def test_a_store_is_left_alone_in_proportion_to_the_time_that_it_took(monkeypatch):
    clock = iter([100.0, 199.0, 201.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    store = patience.Patience()
    store.waited(5)  # at second 100
    assert store.exhausted  # at second 199
    assert not store.exhausted  # at second 201
