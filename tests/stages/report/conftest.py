"""Settings and results of a run, made by hand, for the tests of the report."""

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.stages.report.results import read_results
from sample_results import HOSTILE, write_results

FAST = {"compare.resamples": 200, "evaluate.probes": ["Calculate pi", HOSTILE]}


@pytest.fixture(scope="module")
def settings(root):
    return params.load(root / "params.yaml", FAST)


@pytest.fixture
def make(tmp_path, root):
    """Writes results with some settings changed and reads them back, as the stage does."""

    def of(overrides={}, **kinds):
        settings = params.load(root / "params.yaml", FAST | overrides)
        write_results(tmp_path / "results", settings, **kinds)
        return read_results(tmp_path / "results", settings), settings

    return of
