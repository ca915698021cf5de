"""The page of one finished run: its order, links and figures, and that no text becomes markup."""

import html
import json
import re
import struct
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
import yaml
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.published_runs import FULL_RUN, PUBLISHED_RUNS
from gsm8k_grpo.tracking import mlflow_runs
from markupsafe import escape
from report_page import between, cells, page_of
from sample_results import HOSTILE, write_results

PNGS = ["accuracy.png", "gains.png", "learning.png", "rewards.png", "timing.png", "training.png"]


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A folder where the stage has run, and the ids of the MLflow runs."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        run_ids = {}
        for model in ["base", *settings.variants]:
            with mlflow_runs.running(mlflow_runs.Run(settings, model, model)) as run:
                run_ids[model] = run.id
        write_results(folder / "results", settings, run_ids=run_ids)
        report_stage.report(folder / "results", folder / "results" / "report", settings)
        yield folder, run_ids


@pytest.fixture(scope="module")
def page(finished):
    return (finished[0] / "results" / "report" / "report.html").read_text(encoding="utf-8")


def test_the_answer_comes_first(page):
    title = between(page, "<h1>", "</h1>")
    assert "65.0 points (95\u00a0% CI " in title
    assert "10.0\u00a0%" in title
    assert "75.0\u00a0%" in title
    parts = (
        "summary",
        "accuracy-0",
        "cost",
        "limits",
        "compare",
        "gains",
        "evaluate",
        "completions",
        "probes",
        "train",
    )
    positions = [page.index(f'id="{part}"') for part in (*parts, "published", "configuration", "reproduction")]
    assert positions == sorted(positions)


def test_every_link_of_the_page_has_its_target(page):
    for target in re.findall(r'href="#(\w+)"', page):
        assert f'id="{target}"' in page, target


def test_texts_of_data_and_models_are_escaped(page):
    """Probes, samples and the data's origin contain a script; test_report_page.py tests the answers."""
    escaped = str(escape(HOSTILE))
    assert HOSTILE not in page
    for part, following in [("probes", "train"), ("train", "published"), ("extract", "configuration")]:
        assert escaped in between(page, f'id="{part}"', f'id="{following}"'), part
    assert page.count("</script>") == page.count("<script") == 4


def test_the_charts_data_cannot_end_the_script(page):
    data = between(page, 'id="specifications">', "</script>")
    assert "accuracy-0" in json.loads(data)
    assert "<" not in data


def test_names_from_the_configuration_are_escaped(make):
    names = {"source": "hub", "model": HOSTILE, "download.hub.licence": HOSTILE, "tracking.experiment": HOSTILE}
    page = page_of(*make(names))
    assert HOSTILE not in page
    assert page.count("</script>") == 4


def test_the_page_loads_nothing(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'\b(src|href)="(?!#|data:)', markup)
    assert "url(" not in markup
    assert "@import" not in markup


def test_the_published_runs_are_on_the_page_with_their_sources(page):
    for text in ("22,419", "3.0", "62,352", "18,142 MiB", "RTX 4090", "3.17", "correctness 1.67", "this run, full"):
        assert text in page
    for run in PUBLISHED_RUNS:
        assert str(escape(run.source)) in page


def test_the_published_full_run_is_as_its_log_says():
    full = next(run for run in PUBLISHED_RUNS if run.steps == 22_419)
    assert (full.source, full.epochs, full.seconds) == (FULL_RUN, 3.0, 62_352.0686)
    assert full.reward == pytest.approx(sum(full.rewards.values()))


def test_configuration_versions_and_runs_are_on_the_page(page, finished, settings):
    for run_id in finished[1].values():
        assert run_id in page
    assert f"<dt>torch</dt><dd>{version('torch')}</dd>" in page
    assert f"<dt>git commit</dt><dd>{html.escape(git.commit())}</dd>" in page
    configuration = between(between(page, 'id="configuration"', "</section>"), "<pre>", "</pre>")
    assert yaml.safe_load(html.unescape(configuration)) == settings.model_dump()


def test_without_a_start_no_gain_is_split(page):
    assert "not from base" not in page


def test_differences_show_both_p_values_and_are_attributed_to_kinds(page):
    strict = {row[1]: row for row in cells(page, "compare") if row[0] == "strict"}
    assert strict["full vs. base"][4:8] == ["< 0.0001", "< 0.0001", "26", "0"]
    # base's last number is correct for 25 questions: of the 26 newly correct ones of full, 21 change only their format
    attributed = {row[0]: row for row in cells(page, "gains")}
    assert attributed["full vs. base"] == ["full vs. base", "+52.5", "0.0", "+12.5", "21", "0", "5", "0", "0", "0"]


def test_the_same_results_give_the_same_page(make):
    assert page_of(*make()) == page_of(*make())


def test_samples_are_thinned_from_first_to_last():
    samples = [{"step": step, "prompt": prompt} for step in range(1, 500, 50) for prompt in range(4)]
    picked = report_stage.thinned(samples)
    assert [row["step"] for row in picked] == [1, 101, 201, 251, 351, 451]
    assert {row["prompt"] for row in picked} == {0}
    assert report_stage.thinned(samples[:4]) == samples[:1]


def test_figures_are_next_to_the_page_and_in_the_run_of_each_variant(finished, settings):
    folder, run_ids = finished
    written = folder / "results" / "report"
    assert sorted(path.name for path in written.iterdir()) == sorted([*PNGS, "report.html"])
    for name in PNGS:
        content = (written / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", content[16:24])) > 200  # width and height in pixels
    client = mlflow.MlflowClient(f"sqlite:///{folder}/tracking/mlflow.db")
    for variant in settings.variants:
        logged = client.list_artifacts(run_ids[variant], "report")
        assert sorted(Path(artifact.path).name for artifact in logged) == PNGS


def test_a_run_with_enough_signal_has_only_its_share_on_the_first_screen(page):
    first = between(page, '<header id="summary">', "<details")
    assert 'class="note"' not in first
    share = between(first, '<p class="muted" id="no-signal">', "</p>")
    assert len(re.findall(r"\d+\.\d\u00a0% of (?:short|full)", html.unescape(share))) == 2
    assert 'id="signal"' not in page  # no answers were sampled
