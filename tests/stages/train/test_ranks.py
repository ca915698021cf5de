"""Several ranks train together: their steps are those of one process, and they start, save and end as one."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from gsm8k_grpo.files import PipelineError, read_json
from gsm8k_grpo.runtime import ranks
from project import ROOT
from safetensors.torch import load_file
from shared_steps import RUNS, assert_same_steps, trained_by
from small_run import (
    MODEL_FILES,
    STEPS,
    TRAIN,
    assert_same_run,
    history,
    logged_steps,
    run,
    stage,
    start,
    wait_for,
    whole,
)

TWO = {"gpus": 2}


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory):
    return trained_by(1, prepared / "results", tmp_path_factory.mktemp("ranks") / "alone")


@pytest.fixture(scope="module")
def together(prepared, tmp_path_factory):
    return trained_by(2, prepared / "results", tmp_path_factory.mktemp("ranks") / "together")


@pytest.fixture(scope="module")
def sharded(prepared, tmp_path_factory):
    return trained_by(2, prepared / "results", tmp_path_factory.mktemp("ranks") / "sharded", "--shard")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("of_two", ["together", "sharded"])
def test_two_ranks_take_the_steps_of_one_process(name, of_two, alone, request):
    """Each with a copy of the weights, or with a part of them."""
    assert_same_steps(name, alone, request.getfixturevalue(of_two), rel=2e-4, weights=1e-6)


def test_the_ranks_share_the_tokens_of_each_batch_as_evenly_as_whole_groups_can(alone, together):
    """Each has two of the four prompts."""
    whole, *halves = (
        json.loads(file.read_text())
        for file in (alone / "batches-0.json", together / "batches-0.json", together / "batches-1.json")
    )
    for batch, *of_ranks in zip(whole, *halves, strict=True):
        assert sorted(batch) == sorted(itertools.chain(*of_ranks))
        one, other = (sum(tokens for _, tokens in groups) for groups in of_ranks)
        pairs = (sum(tokens for _, tokens in pair) for pair in itertools.combinations(batch, 2))
        assert max(one, other) == min(max(pair, one + other - pair) for pair in pairs)
    assert any(batch != [*one, *other] for batch, one, other in zip(whole, *halves, strict=True))


def ranks_of(process) -> list[psutil.Process]:
    """The ranks that a training has started, in order."""
    children = psutil.Process(process.pid).children(recursive=True)
    by_number = {one.environ().get("RANK"): one for one in children if "train" in one.cmdline()}
    return [by_number[number] for number in sorted(filter(None, by_number))]


def test_a_run_of_two_ranks_writes_what_a_run_of_one_does(trained_by_two):
    rows = history(trained_by_two).splitlines()
    assert len(rows) == 1 + len(STEPS)
    assert logged_steps(trained_by_two) == STEPS
    metrics = read_json(trained_by_two / "results/train/short/metrics.json")
    assert (metrics["steps"], metrics["prompts_seen"], metrics["effective_config"]["gpus"]) == (12, 48, 2)
    assert metrics["effective_config"]["per_device_train_batch_size"] == 16


def test_what_two_ranks_answer_is_what_one_process_answers(trained_by_two, tmp_path):
    """Greedy answers, in the order of the questions; samples depend on the number of ranks."""
    alone = shutil.copytree(trained_by_two, tmp_path / "p")
    evaluated = stage(alone, "evaluate --model short", gpus=1)
    assert "was made with gpus = 2" in evaluated.stderr  # nothing is mixed that was made in two ways
    for made_with in alone.glob("results/*/**/configuration.json"):
        made_with.write_text(made_with.read_text().replace('"gpus": 2', '"gpus": 1'))
    run(alone, "evaluate --model short", gpus=1)
    for file in ("answers.jsonl", "sets/longer.jsonl", "checkpoints.jsonl", "probes.jsonl"):
        one, two = (folder / "results/evaluate/short" / file for folder in (alone, trained_by_two))
        assert one.read_text() == two.read_text()
    samples = [json.loads(line) for line in (trained_by_two / "results/evaluate/short/sampled.jsonl").open()]
    assert [row["id"] for row in samples] == [f"test-{index}" for index in range(10)]


def test_a_rank_that_dies_ends_the_others_within_a_minute_and_the_run_resumes(trained_by_two, folder):
    """It is named.  The run then resumes, a signal ends all ranks with a checkpoint, and it resumes again."""
    process = start(folder, TRAIN, **TWO)
    wait_for(whole(folder, 4), process)
    killed = time.monotonic()
    started = ranks_of(process)
    started[1].kill()
    said = process.communicate()[0]
    assert time.monotonic() - killed < 60
    assert process.returncode == 1
    assert "error: rank 1 of 2 was ended by SIGKILL, so the others were stopped" in said.splitlines()[-1]
    assert not started[0].is_running()

    process = start(folder, TRAIN, **TWO)
    wait_for(lambda: any(folder.glob("checkpoints/short-*/kept/9")), process)
    process.send_signal(signal.SIGTERM)
    assert "resuming from checkpoints/short-" in process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM
    run(folder, TRAIN, **TWO)
    assert_same_run(trained_by_two, folder)


def test_divided_weights_are_trained_kept_and_resumed_like_whole_ones(trained_by_two, prepared, tmp_path):
    """An uninterrupted run ends where one does whose ranks have copies; an interrupted one ends with the same bytes."""
    divided = TWO | {"shard_weights": True}
    whole_run, interrupted = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "interrupted"))
    run(whole_run, TRAIN, **divided)
    for file in MODEL_FILES:
        copies, parts = (load_file(folder / file) for folder in (trained_by_two, whole_run))
        assert parts.keys() == copies.keys()
        for name, value in copies.items():
            assert parts[name].numpy() == pytest.approx(value.numpy(), rel=0, abs=1e-6), name
    assert not list(whole_run.glob("results/train/short/**/optimizer*"))
    assert read_json(whole_run / "results/train/short/metrics.json")["effective_config"]["shard_weights"]
    of_copies, of_parts = ({one.name for one in at.glob("checkpoints/*")} for at in (trained_by_two, whole_run))
    assert of_copies.isdisjoint(of_parts)  # neither resumes from the other's checkpoints

    process = start(interrupted, TRAIN, **divided)
    wait_for(lambda: any(interrupted.glob("checkpoints/short-*/kept/9")), process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "resuming from" in stage(interrupted, TRAIN, **divided).stderr
    assert_same_run(whole_run, interrupted)


def test_ranks_end_with_the_process_that_started_them(folder):
    process = start(folder, TRAIN, **TWO)
    wait_for(whole(folder, 4), process)
    started = ranks_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert psutil.wait_procs(started, timeout=60)[1] == []


def test_an_error_of_the_configuration_of_a_rank_is_said_once(folder):
    done = stage(folder, TRAIN, **TWO | {"train.learning_rate": 1e30})
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "rank" not in done.stderr.splitlines()[-1]


def test_ranks_that_only_lost_each_other_have_failed_too(monkeypatch):
    monkeypatch.setattr(ranks, "_start", lambda *_: subprocess.Popen(["sh", "-c", f"exit {ranks.LEFT_ALONE}"]))
    with pytest.raises(PipelineError, match=r"^rank 0 of 2 failed with exit status 3, so the others were stopped"):
        ranks.run(2)


def test_a_rank_leaves_the_process_group_before_it_ends():
    code = """
import atexit
import torch.distributed as dist
from gsm8k_grpo.runtime import ranks
atexit.register(lambda: print("a member:", dist.is_initialized()))
with ranks.together():
    dist.init_process_group("gloo")
print("a member:", dist.is_initialized())
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")} | ranks._environments(1)[0]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a member: True", "a member: False"]
