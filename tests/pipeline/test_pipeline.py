"""The whole default pipeline with Snakemake, training, MLflow and report; then what a rerun does."""

import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import small_run
from gsm8k_grpo.files import read_json, read_jsonl

MODELS = ["base", "short", "full"]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["snakemake", *arguments], cwd=folder, env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def jobs(dry_run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many jobs of each rule a dry run lists."""
    assert dry_run.returncode == 0, dry_run.stderr
    lines = re.findall(r"^(\w+) +(\d+)$", dry_run.stdout + dry_run.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in lines if rule != "total"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return small_run.checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def finished(checkout) -> Path:
    done = snakemake(checkout, "--cores", "1", "report")
    assert done.returncode == 0, done.stderr
    return checkout


def metrics(folder: Path, model: str) -> dict:
    return read_json(folder / "results/evaluate" / model / "metrics.json")


def difference(folder: Path, a: str, b: str, metric: str) -> dict:
    rows = read_json(folder / "results/compare/comparison.json")
    return next(row for row in rows if (row["a"], row["b"], row["metric"]) == (a, b, metric))


def test_a_dry_run_lists_every_job(checkout):
    assert jobs(snakemake(checkout, "-n", "report")) == {
        "configure": 1, "download": 1, "download_sets": 1, "extract": 1, "extract_sets": 1, "base": 1, "train": 2,
        "evaluate": 3, "compare": 1, "card": 2, "report": 1,
    }  # fmt: skip


def test_snakemake_without_a_target_makes_the_report(checkout):
    assert jobs(snakemake(checkout, "-n")) == jobs(snakemake(checkout, "-n", "report")) | {"all": 1}


def test_lint_finds_nothing(checkout):
    linted = snakemake(checkout, "--lint")
    assert linted.returncode == 0
    assert "Congratulations, your workflow is in a good condition!" in linted.stderr


def test_a_kept_checkpoint_is_a_target_that_needs_only_its_variants_training(checkout):
    target = "results/evaluate/short@100/metrics.json"
    assert jobs(snakemake(checkout, "-n", target)) == {
        "download": 1, "download_sets": 1, "extract": 1, "extract_sets": 1, "base": 1, "train": 1,
        "evaluate_checkpoint": 1,
    }  # fmt: skip


def test_a_step_that_is_not_kept_is_an_error_that_lists_the_models(checkout):
    refused = snakemake(checkout, "-n", "results/evaluate/short@77/metrics.json")
    assert refused.returncode == 1
    assert "no model short@77: choose from base, short, full, short@50, short@100, full@50," in refused.stdout


def test_an_unknown_key_is_an_error_before_any_work(checkout):
    stopped = snakemake(checkout, "--cores", "1", "report", "--config", 'train={"learning_rat": 1e-4}')
    assert stopped.returncode == 1
    assert re.search(r"train\.learning_rat: .*train\.learning_rate\b", stopped.stderr)
    assert not (checkout / "results").exists()


def test_full_training_raises_strict_accuracy_by_twenty_points_and_flexible_accuracy_too(finished):
    strict = difference(finished, "base", "full", "strict_accuracy")
    flexible = difference(finished, "base", "full", "flexible_accuracy")
    assert strict["n"] >= 500
    assert strict["difference"] >= 0.20
    assert strict["p_value"] < 0.001
    assert flexible["difference"] > 0
    assert flexible["p_value"] < 0.05


def test_short_training_raises_strict_accuracy_by_ten_points(finished):
    strict = difference(finished, "base", "short", "strict_accuracy")
    assert strict["difference"] >= 0.10
    assert strict["p_value"] < 0.001


@pytest.mark.parametrize("model", MODELS)
def test_every_model_answers_the_whole_test_split(finished, model):
    test = read_jsonl(finished / "results/extract/test.jsonl")
    answers = read_jsonl(finished / "results/evaluate" / model / "answers.jsonl")
    assert [answer["id"] for answer in answers] == [row["id"] for row in test]
    assert metrics(finished, model)["strict_accuracy"] == sum(a["strict_correct"] for a in answers) / len(answers)
    probes = [row["question"] for row in read_jsonl(finished / "results/evaluate" / model / "probes.jsonl")]
    assert probes == ["Calculate pi", "Which is bigger? 9.919 or 9.92?", "Which is bigger? 9.11 or 9.9?"]


@pytest.mark.parametrize(("variant", "steps", "epochs"), [("short", 250, 1.25), ("full", 600, 3.0)])
def test_a_variant_trains_for_its_length_within_its_memory(finished, variant, steps, epochs):
    trained = read_json(finished / "results/train" / variant / "metrics.json")
    assert (trained["steps"], trained["prompts_left_out_per_epoch"]) == (steps, 0)
    assert trained["epochs"] == pytest.approx(epochs, abs=0.005)
    assert trained["peak_memory_gib"] < 3
    assert len(pd.read_csv(finished / "results/train" / variant / "history.csv")) == steps


@pytest.mark.parametrize("variant", ["short", "full"])
def test_mlflow_has_curves_final_metrics_data_tags_and_figures_of_a_variant(finished, variant):
    client = mlflow.MlflowClient(f"sqlite:///{finished}/tracking/mlflow.db")
    run = client.get_run(read_json(finished / "results/train" / variant / "metrics.json")["mlflow_run_id"])
    history = pd.read_csv(finished / "results/train" / variant / "history.csv")
    curve = client.get_metric_history(run.info.run_id, "reward_correctness")
    assert {point.step: point.value for point in curve} == dict(
        zip(history["step"], history["reward_correctness"], strict=True)
    )
    assert (run.info.run_name, run.info.status) == (variant, "FINISHED")
    assert run.data.metrics["final_strict_accuracy"] == metrics(finished, variant)["strict_accuracy"]
    assert run.data.tags | {"recipe": "tiny", "variant": variant, "source": "generated"} == run.data.tags
    assert run.data.params["train.learning_rate"] == "0.0002"
    assert run.inputs.dataset_inputs[0].dataset.digest
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(run.info.run_id, "report")}
    assert figures == set(CATEGORIES["Figures"])


CATEGORIES = {
    "Answer": ["report.html"],
    "Comparison": ["comparison.json", "gains.json", "seeds.json"],
    "Evaluation": ["metrics.json"] * 3,
    "Figures": [
        "accuracy.png",
        "gains.png",
        "learning.png",
        "rewards.png",
        "sampled.png",
        "timing.png",
        "training.png",
    ],
    "Training": ["README.md"] * 2 + ["history.csv"] * 2 + ["metrics.json"] * 2,
}


@pytest.fixture(scope="module")
def snakemakes_report(finished, tmp_path_factory) -> zipfile.ZipFile:
    archive = tmp_path_factory.mktemp("report") / "report.zip"
    done = snakemake(finished, "--report", str(archive))
    assert done.returncode == 0, done.stderr
    assert "Missing metadata" not in done.stderr
    return zipfile.ZipFile(archive)


def shown(archive: zipfile.ZipFile, name: str) -> Any:
    """The value of a variable in the page of Snakemake's report."""
    page = archive.read("report/report.html").decode()
    return json.loads(re.search(rf"^ *var {name} = ([{{\"].+);$", page, re.MULTILINE)[1])


def test_snakemakes_report_has_the_results_by_category_and_describes_the_workflow(snakemakes_report):
    categories = {
        name: sorted(map(os.path.basename, parts["Other"]))
        for name, parts in shown(snakemakes_report, "categories").items()
    }
    assert categories == CATEGORIES
    files = sorted(map(os.path.basename, snakemakes_report.namelist()))
    assert files == sorted(["report.html", *itertools.chain(*CATEGORIES.values())])
    description = shown(snakemakes_report, "workflow_desc")
    assert "the recipe <em>tiny</em>" in description
    assert "short and full" in description
    assert set(shown(snakemakes_report, "rules")) >= {
        "configure",
        "download",
        "extract",
        "base",
        "train",
        "evaluate",
        "compare",
        "report",
    }


def test_every_result_in_snakemakes_report_has_a_caption_and_a_unique_label(snakemakes_report):
    results = shown(snakemakes_report, "results")
    assert all(result["caption"].startswith("<p>") for result in results.values())
    for parts in shown(snakemakes_report, "categories").values():
        labels = [tuple(results[path]["labels"].items()) for path in parts["Other"]]
        assert len(set(labels)) == len(labels)
    assert results["results/train/short/history.csv"]["labels"] == {"variant": "short", "what": "every step"}
    assert "variant <em>short</em>" in results["results/train/short/history.csv"]["caption"]


def test_a_second_run_does_nothing(finished):
    again = snakemake(finished, "--cores", "1", "report")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_changed_evaluation_key_retrains_nothing(finished):
    changed = snakemake(finished, "-n", "report", "--config", 'evaluate={"questions": 100}')
    assert jobs(changed) == {"configure": 1, "evaluate": 3, "compare": 1, "card": 2, "report": 1}


def test_a_further_test_set_retrains_nothing(finished):
    sets = '{"own": {"generated": {"problems": "rich", "rows": 20}}}'
    changed = snakemake(finished, "-n", "report", "--config", f'evaluate={{"sets": {sets}}}')
    assert jobs(changed) == {
        "configure": 1, "download_sets": 1, "extract_sets": 1, "evaluate": 3, "compare": 1, "card": 2, "report": 1,
    }  # fmt: skip


def test_a_changed_length_trains_only_that_variant(finished):
    changed = snakemake(finished, "-n", "report", "--config", 'variants={"short": {"max_steps": 8}}')
    assert jobs(changed) == {"configure": 1, "train": 1, "evaluate": 1, "compare": 1, "card": 2, "report": 1}
