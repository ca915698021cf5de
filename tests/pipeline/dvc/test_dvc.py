"""The pipeline under DVC, on few steps: what runs, what is restored, clones, experiments, `make sync`."""

import itertools
import json
import re
import shutil
import subprocess
import time

import mlflow
import pytest
import yaml
from dvc_project import AFTER_EVALUATION, ALL, CARDS, RULES, TABLE, configured, done, edit, environment, run
from dvc_state import (
    assert_snakemake_runs_nothing,
    at_work,
    checkpoints,
    ran,
    refused,
    restored,
    rules_that_would_run,
    stale,
)
from gsm8k_grpo.config import layers
from gsm8k_grpo.files import read_json
from project import ROOT

SEED_7 = "results/configure/params.yaml: it was made with seed = 7, and the configuration has 42"


def test_a_run_leaves_the_repository_clean_and_snakemake_nothing_to_do(same_results):
    assert done(same_results, "git", "status", "--porcelain") == ""
    assert_snakemake_runs_nothing(same_results)


def test_dvc_lists_the_stages_in_order_and_their_dependencies(same_results):
    listed = done(same_results, "dvc", "stage", "list").splitlines()
    assert [line.split()[0] for line in listed] == TABLE
    arrows = {tuple(re.findall(r'"([^"]+)"', line)) for line in done(same_results, "dvc", "dag", "--dot").splitlines()}
    chain = ["download", "extract", "base", "train@full", "evaluate@full", "compare", "report"]
    assert set(itertools.pairwise(chain)) <= arrows
    assert ("train@short", "evaluate@full") not in arrows


def test_with_nothing_changed_nothing_runs(same_results):
    output = done(same_results, "dvc", "repro")
    assert (ran(output), restored(output)) == (set(), set())


def test_a_changed_evaluation_key_repeats_only_the_evaluation_and_its_old_value_restores_the_results(finished):
    edit(finished, evaluate__questions=8)
    assert ran(done(finished, "dvc", "repro")) == {"configure", *AFTER_EVALUATION}
    assert read_json(finished / "results/evaluate/full/metrics.json")["n"] == 8
    difference = json.loads(done(finished, "dvc", "metrics", "diff", "--json"))
    assert difference["results/evaluate/full/metrics.json"]["n"] == {"old": 10, "new": 8, "diff": -2}
    assert_snakemake_runs_nothing(finished)

    done(finished, "git", "checkout", "--quiet", "params.yaml")
    output = done(finished, "dvc", "repro")
    assert (ran(output), restored(output)) == (set(), {"configure", *AFTER_EVALUATION})
    assert done(finished, "git", "status", "--porcelain") == ""
    # Snakemake's records describe the run with 8 questions.
    assert "Nothing to be done" not in done(finished, "snakemake", "-n", "report")
    done(finished, "gsm8k-grpo", "sync")
    assert_snakemake_runs_nothing(finished)


def test_an_experiment_trains_only_the_changed_variant_and_can_be_compared(finished):
    settings = ["-S", "recipe=again", "-S", "variants.short.max_steps=8"]
    output = done(finished, "dvc", "exp", "run", "--name", "shorter", *settings)
    stale = {"configure", "train@short", "evaluate@short", "compare", "card@short", "report"}
    assert ran(output) - {"card@full"} == stale  # the card of full is rewritten only if a figure in it has changed
    trained = read_json(finished / "results/train/short/metrics.json")
    assert trained["steps"] == 8
    run = mlflow.MlflowClient(f"sqlite:///{finished}/tracking/mlflow.db").get_run(trained["mlflow_run_id"])
    commit = done(finished, "git", "rev-parse", "HEAD").strip()
    assert (run.data.tags["dvc_experiment"], run.data.tags["dvc_baseline"]) == ("shorter", commit)

    (baseline,) = (row for row in json.loads(done(finished, "dvc", "exp", "show", "--json")) if row["name"] == "main")
    (experiment,) = (row for row in baseline["experiments"] if row["name"] == "shorter")
    assert configured(baseline["data"]) == ("tiny", 12)
    assert configured(experiment["revs"][0]["data"]) == ("again", 8)
    difference = json.loads(done(finished, "dvc", "metrics", "diff", "--json", "HEAD", "shorter"))
    assert difference["results/evaluate/short/metrics.json"]["mlflow_run_id"]["new"] == trained["mlflow_run_id"]
    done(finished, "dvc", "plots", "show", "--out", ".work/plots")
    page = (finished / ".work/plots/index.html").read_text()
    assert page.count('"field": "reward_correctness"') >= 1
    assert all(f'"filename": "{variant}/history.csv"' in page for variant in ("short", "full"))

    done(finished, "git", "checkout", "--quiet", ".")
    assert ran(done(finished, "dvc", "repro")) == set()
    assert read_json(finished / "results/train/short/metrics.json")["steps"] == 12
    done(finished, "gsm8k-grpo", "sync")  # Snakemake's records describe the experiment


def test_a_start_is_trained_again_only_if_it_changes_itself(finished):
    edit(finished, variants__full__start="short")
    assert ran(done(finished, "dvc", "repro", "train@full")) == {"configure", "train@full"}
    assert not stale(finished, "train@short", "train@full")
    edit(finished, variants__short__max_steps=8)
    done(finished, "dvc", "repro", "configure")
    assert stale(finished, "train@short", "train@full") == {"train@short", "train@full"}


def test_a_further_seed_trains_each_variant_once_more_and_nothing_else(finished):
    edit(finished, seeds=[43])
    further = {f"{stage}_seed@{variant}-43" for stage in ("train", "evaluate") for variant in ("short", "full")}
    assert ran(done(finished, "dvc", "repro")) == {"configure", *further, "compare", "report"}
    spreads = read_json(finished / "results/compare/seeds.json")
    assert [(row["variant"], row["seeds"], len(row["values"])) for row in spreads] == [
        *[("short", [42, 43], 2)] * 2, *[("full", [42, 43], 2)] * 2,
    ]  # fmt: skip
    assert {row["b"] for row in read_json(finished / "results/compare/comparison.json")} == {"short", "full"}
    assert_snakemake_runs_nothing(finished)

    done(finished, "git", "checkout", "--quiet", ".")
    done(finished, "dvc", "checkout", "--force")
    assert not list(finished.glob("results/*/*_s43/*"))
    assert ran(done(finished, "dvc", "repro")) == set()


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("workflow/gsm8k_grpo/analysis/significance.py", AFTER_EVALUATION),
        ("workflow/gsm8k_grpo/stages/train/grpo/trainer.py", {"train@short", "train@full"}),
        ("workflow/gsm8k_grpo/cli/app.py", set()),
        ("workflow/gsm8k_grpo/stages/report/templates/train.html.j2", {"report"}),
        ("workflow/rules/base.smk", {"base"}),
        ("envs/cpu.txt", ALL),
        ("workflow/recipes/tiny.yaml", {"configure"}),
    ],
)
def test_a_changed_file_makes_the_stages_that_depend_on_it_stale(same_results, file, stale):
    with (same_results / file).open("a") as source:
        source.write("\n")
    assert json.loads(done(same_results, "dvc", "status", "--json")).keys() == stale


def test_a_clone_that_pulls_the_results_runs_nothing(same_results, tmp_path):
    store, clone = tmp_path / "store", tmp_path / "clone"
    done(same_results, "dvc", "remote", "add", "--default", "store", str(store))
    done(same_results, "dvc", "push")
    done(same_results, "git", "clone", "--quiet", ".", str(clone))
    done(clone, "dvc", "remote", "add", "--default", "store", str(store))
    done(clone, "dvc", "pull")
    assert "Nothing to be done" not in done(clone, "snakemake", "-n", "report")
    assert done(clone, "gsm8k-grpo", "sync").startswith("results agrees with dvc.lock")
    assert_snakemake_runs_nothing(clone)
    output = done(clone, "dvc", "repro")
    assert (ran(output), restored(output)) == (set(), set())

    # A change runs every stage that looks it up, whether or not Snakemake has records.
    assert rules_that_would_run(clone, "seed=7") == RULES
    shutil.rmtree(clone / ".snakemake")
    assert_snakemake_runs_nothing(clone)
    assert rules_that_would_run(clone, "seed=7") == RULES
    assert rules_that_would_run(clone, 'extract={"language": "chinese"}') == RULES - {"download", "download_sets"}
    by_hand = run(clone, "gsm8k-grpo", "report", "--set", "seed=7")
    assert by_hand.returncode == 1
    assert by_hand.stderr.startswith(
        "error: results/download: it was made with seed = 42, and the configuration has 7;"
    )

    # Results of another configuration are not recorded as those of params.yaml.
    recorded = (clone / "dvc.lock").read_bytes()
    done(clone, "snakemake", "--cores", "1", "results/configure/params.yaml", "--config", "seed=7")
    assert SEED_7 in refused(clone, "--commit")
    assert (clone / "dvc.lock").read_bytes() == recorded
    done(clone, "dvc", "commit", "--force")
    assert SEED_7 in refused(clone)
    done(clone, "git", "checkout", "--quiet", "dvc.lock")
    done(clone, "snakemake", "--cores", "1", "results/configure/params.yaml")
    (clone / "dvc.lock").unlink()
    done(clone, "gsm8k-grpo", "sync", "--commit")
    assert (clone / "dvc.lock").read_bytes() == recorded


def test_two_clones_train_different_variants_at_once_and_what_they_push_is_joined_without_training(
    same_results, tmp_path
):
    store = tmp_path / "store"
    done(same_results, "dvc", "remote", "add", "--default", "store", str(store))
    done(same_results, "dvc", "push")
    machines = {"short": {"variants__short__max_steps": 8}, "full": {"variants__full__epochs": 2}}
    repros = {}
    for variant, changes in machines.items():
        clone = tmp_path / variant
        done(same_results, "git", "clone", "--quiet", ".", str(clone))
        done(clone, "dvc", "remote", "add", "--local", "--default", "store", str(store))
        done(clone, "dvc", "pull")
        done(clone, "gsm8k-grpo", "sync")
        edit(clone, **changes)
        command = ["dvc", "repro", f"evaluate@{variant}"]
        repros[variant] = subprocess.Popen(
            command, cwd=clone, env=environment(clone), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    for variant, repro in repros.items():
        output = repro.communicate()[0]
        assert repro.returncode == 0, output
        assert ran(output) == {"configure", f"train@{variant}", f"evaluate@{variant}"}
        done(tmp_path / variant, "git", "commit", "--quiet", "--all", "--message", variant)
        done(tmp_path / variant, "dvc", "push", "--run-cache")

    joined = tmp_path / "short"
    done(joined, "git", "pull", "--quiet", "--no-rebase", "--no-edit", "--strategy-option", "ours", "../full", "main")
    done(joined, "dvc", "pull", "--run-cache", "--force")
    assert ran(done(joined, "dvc", "repro")) == {"configure", "compare", *CARDS, "report"}
    steps = {variant: read_json(joined / f"results/train/{variant}/metrics.json")["steps"] for variant in machines}
    assert steps == {"short": 8, "full": 16}
    done(joined, "gsm8k-grpo", "sync")
    assert_snakemake_runs_nothing(joined)


def test_a_variant_that_is_taken_out_leaves_the_comparison_the_report_and_the_dependencies(finished):
    path = finished / "params.yaml"
    settings = layers.read(path)
    del settings["variants"]["short"]
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    assert {"configure", "compare", "report"} <= ran(done(finished, "dvc", "repro")) <= {"configure", *AFTER_EVALUATION}
    assert {row["b"] for row in read_json(finished / "results/compare/comparison.json")} == {"full"}
    assert done(finished, "dvc", "status", "--json").strip() == "{}"
    # What a clone would lack is in no folder that DVC compares.
    assert [path.name for path in (finished / "results/train").iterdir()] == ["full"]
    assert (finished / "results/former/train/short/model/model.safetensors").exists()
    assert_snakemake_runs_nothing(finished)


def test_an_experiment_in_a_folder_of_its_own_runs_its_own_code(finished):
    """As it does from DVC's queue, whose environment imports the code of the workspace."""
    template = finished / "workflow/gsm8k_grpo/stages/report/templates/train.html.j2"
    template.write_text(f"<!-- of the experiment -->{template.read_text()}")
    installed = environment(finished) | {"PYTHONPATH": str(ROOT / "workflow")}
    command = ["dvc", "exp", "run", "--temp", "--name", "own-code", "report"]
    experiment = subprocess.run(command, cwd=finished, env=installed, capture_output=True, text=True, check=False)
    assert experiment.returncode == 0, experiment.stdout + experiment.stderr
    assert ran(experiment.stdout) == {"report"}
    done(finished, "dvc", "exp", "apply", "own-code")
    assert "<!-- of the experiment -->" in (finished / "results/report/report.html").read_text()


def test_sync_refuses_results_that_differ_from_the_record(finished):
    edit(finished, seed=7)
    (finished / "results/compare/comparison.json").write_text("[]")
    first, *changes, remedies = refused(finished).splitlines()
    assert first.startswith("error: results differs from dvc.lock")
    assert changes == [
        "  configure: changed deps: params.yaml modified",
        "  compare: changed outs: results/compare modified",
        "  card@short: changed deps: results/compare/comparison.json modified",
        "  card@full: changed deps: results/compare/comparison.json modified",
        "  report: changed deps: results/compare modified",
    ]
    for command in ("`dvc pull`", "`dvc checkout`", "`dvc repro`", "`gsm8k-grpo sync --commit`"):
        assert command in remedies


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_sync_refuses_links_into_the_cache_and_names_the_commands_that_make_copies(finished, link):
    done(finished, "dvc", "config", "--local", "cache.type", link)
    done(finished, "dvc", "checkout", "--relink")
    message = refused(finished)
    assert message.startswith("error: results/base/base.json, results/base/configuration.json, ")
    assert "linked to DVC's cache" in message
    for command in re.findall(r"`(dvc [^`]+)`", message):
        done(finished, *command.split())
    done(finished, "gsm8k-grpo", "sync")
    assert_snakemake_runs_nothing(finished)


def test_dvc_commit_records_results_that_dvc_does_not_know(finished):
    recorded = (finished / "dvc.lock").read_bytes()
    (finished / "dvc.lock").unlink()
    done(finished, "dvc", "commit", "--force")
    assert done(finished, "dvc", "status", "--json").strip() == "{}"
    assert (finished / "dvc.lock").read_bytes() == recorded


def test_no_job_outlives_a_killed_dvc_and_the_same_command_resumes(finished):
    edit(finished, variants__short__max_steps=32)
    others = checkpoints(finished)
    repro = subprocess.Popen(
        ["dvc", "repro"], cwd=finished, env=environment(finished), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while checkpoints(finished) == others:
        assert repro.poll() is None
        time.sleep(0.05)
    repro.kill()
    repro.wait()
    deadline = time.monotonic() + 30
    while at_work(finished):
        assert time.monotonic() < deadline, at_work(finished)
        time.sleep(0.05)

    again = done(finished, "dvc", "repro")
    assert "resuming from checkpoints/short-" in again
    stale = {"train@short", "evaluate@short", "compare", "card@short", "report"}
    assert ran(again) - {"card@full"} == stale  # the card of full is rewritten only if a figure in it has changed
    assert read_json(finished / "results/train/short/metrics.json")["sessions"] == 2
