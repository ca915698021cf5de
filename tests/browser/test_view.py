"""MLflow's view of the runs: final metrics first, then curves over the prompts seen, without a click."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from gsm8k_grpo.analysis.metrics import FINAL_METRICS
from gsm8k_grpo.commands.track import track
from gsm8k_grpo.commands.view import NAME, TAG, state, view
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import write_text
from project import ROOT, free_ports
from sample_results import write_results
from screenshot import CHROMEDRIVER, CHROMIUM, browser, picture, show_runs
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def params() -> Params:
    return load(ROOT / "params.yaml", {"compare.resamples": 200})


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, params) -> Path:
    """A folder whose store holds the runs of `sample_results`."""
    folder, before = tmp_path_factory.mktemp("tracked"), Path.cwd()
    results = folder / "results"
    write_results(results, params)
    for split in ("train", "test"):
        write_text(results / "extract" / f"{split}.jsonl", f'{{"question": "{split}"}}\n')
    os.chdir(folder)
    try:
        track(results, params)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def client(tracked, monkeypatch) -> mlflow.MlflowClient:
    monkeypatch.chdir(tracked)
    return mlflow.MlflowClient(f"sqlite:///{tracked}/tracking/mlflow.db")


def runs(client: mlflow.MlflowClient) -> dict[str, mlflow.entities.Run]:
    return {run.info.run_name: run for run in client.search_runs(["1"])}


def test_final_metrics_are_first_in_a_run_although_its_curves_are_logged_earlier(client):
    metrics = runs(client)["short"].data.metrics
    assert list(metrics)[: len(FINAL_METRICS)] == [f"final_{name}" for name in FINAL_METRICS]
    assert metrics["final_strict_accuracy"] == 0.5
    assert "reward" in metrics


def test_a_run_names_the_data_of_its_training_and_evaluation(client):
    logged = {
        name: {entry.dataset.name: entry.tags[0].value for entry in run.inputs.dataset_inputs}
        for name, run in runs(client).items()
    }
    both = {"gsm8k-train": "training", "gsm8k-test": "evaluation"}
    assert logged == {"base": {"gsm8k-test": "evaluation"}, "short": both, "full": both}


def test_the_view_shows_metrics_that_the_runs_have(client, params):
    shown = {chart["metricKey"] for chart in state(params)["compareRunCharts"]}
    assert shown - {"loss"} <= set(runs(client)["full"].data.metrics)  # sample_results has no loss
    sections = {section["uuid"] for section in state(params)["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state(params)["compareRunCharts"]} == sections


def test_the_view_is_stored_in_the_experiment_and_its_address_names_it(client, params):
    address = view(params)
    assert address == f"http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey={NAME}&compareRunsMode=CHART"
    assert json.loads(client.get_experiment("1").tags[TAG]) == state(params)


# In a browser, against MLflow's own server


@pytest.fixture(scope="module")
def server(tracked) -> Iterator[str]:
    """MLflow's interface over the folder's store."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        pytest.skip("needs Debian's chromium and chromium-driver")
    (port,) = free_ports(1)
    store = f"sqlite:///{tracked}/tracking/mlflow.db"
    command = ["mlflow", "ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=tracked, start_new_session=True)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def test_the_runs_open_with_their_final_metrics_and_curves(server, client, params, tmp_path):
    with browser(1440, 1000, offline=False) as driver:
        show_runs(driver, view(params).replace("http://127.0.0.1:5000", server))
        page = driver.find_element(By.TAG_NAME, "body").text
        (tmp_path / "mlflow.png").write_bytes(picture(driver))
    logged = runs(client)["full"].data.metrics  # MLflow hides the charts of other metrics
    charts = [chart for chart in state(params)["compareRunCharts"] if chart["metricKey"] in logged]
    expected = Counter(chart["metricSectionId"] for chart in charts)
    shown = re.findall(r"^(.+)\n\((\d+)\)$", page, re.MULTILINE)
    assert shown[: len(expected)] == [(section, str(number)) for section, number in expected.items()]
    assert page.index("final_strict_accuracy\n") < page.index("final_flexible_accuracy\n")
    assert (tmp_path / "mlflow.png").stat().st_size > 20_000


def test_the_comparison_of_two_runs_opens_with_strict_accuracy(server, client):
    ids = [runs(client)[name].info.run_id for name in ("short", "full")]
    with browser(1440, 1000, offline=False) as driver:
        driver.get(f'{server}/#/compare-runs?runs={json.dumps(ids)}&experiments=["1"]')
        chosen = "return [...document.querySelectorAll('[class*=select-selection-item-content]')].map(e => e.innerText)"
        picked = WebDriverWait(driver, PATIENCE).until(lambda driver: driver.execute_script(chosen))
    assert picked == ["variant.epochs", "variant.max_steps", "final_strict_accuracy"]
