"""Training whose completions come from the engine `graphs`, and an evaluation by it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train.grpo.graph_rollouts import GraphRollouts
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from packed_update import settings
from project import ROOT
from small_run import (
    ADAPTERS,
    TRAIN,
    assert_same_run,
    killed_and_resumed,
    run,
    stage,
)

GRAPHS = "{max_num_seqs: 10, kv_cache_gib: 0.01, compile: false}"
RUN = {"engine": "graphs", "graphs": GRAPHS, "train.share_prompts": "true", "train.old_log_probs": "sampled"}


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    return run(shutil.copytree(prepared, tmp_path_factory.mktemp("graphs") / "p"), TRAIN, **RUN)


def test_a_killed_run_resumes_and_ends_in_the_same_bytes(trained, folder):
    killed_and_resumed(folder, 4, **RUN)
    assert_same_run(trained, folder)


def test_an_evaluation_has_the_greedy_answers_of_transformers(folder):
    answers = {}
    for engine in ("graphs", "transformers"):
        run(folder, "evaluate --model base", engine=engine, graphs=GRAPHS)
        answers[engine] = read_jsonl(folder / "results/evaluate/base/answers.jsonl")
    assert answers["graphs"] == answers["transformers"]
    assert len(answers["graphs"]) == 10


@pytest.mark.parametrize(
    ("method", "options"),
    [("ppo", {}), ("grpo", {"lora": ADAPTERS, "train.num_iterations": 2}), ("online_dpo", {"lora": ADAPTERS})],
)
def test_other_methods_and_adapters_are_trained(folder, method, options):
    run(folder, TRAIN, **RUN | options, **{"variants.short": f"{{method: {method}, max_steps: 8}}"})
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    assert rows["loss"].notna().all()
    assert rows["grad_norm"].max() > 0
    assert read_json(folder / "results/train/short/metrics.json")["effective_config"]["use_vllm"] is True


def rollouts_of(trainer: ResumableGRPOTrainer, prepared: Path) -> GraphRollouts:
    graphs = {"engine": "graphs", "graphs": {"max_num_seqs": 3, "kv_cache_gib": 0.01, "compile": False}}
    return GraphRollouts(trainer, str(prepared / "results/base/model"), load(ROOT / "params.yaml", graphs))


@pytest.mark.parametrize("adapters", [None, Lora(rank=4, alpha=8, targets=["q_proj", "up_proj"])])
def test_log_probabilities_are_those_of_the_trainers_present_weights(prepared, tmp_path, adapters):
    """Also after an update, since the decoder gets the new weights before it generates again."""
    common = settings(prepared, tmp_path, temperature=0.8)
    if adapters:
        common["model"] = loading.adapt(common["model"], adapters)
    trainer = ResumableGRPOTrainer(**common)
    rollouts = rollouts_of(trainer, prepared)
    trainer.generate_with(rollouts, corrected=True)
    rows = [row for row in list(common["train_dataset"])[:3] for _ in range(2)]
    trainer.model.train()
    for update in range(2):
        with torch.no_grad():
            for weight in trainer.model.parameters():
                weight += weight.requires_grad * 0.02 * torch.randn_like(weight)
        trainer.state.global_step = update + 1
        trainer._generate_and_score_completions(rows)
    differences = trainer._metrics["train"]["sampling/sampling_logp_difference/max"]
    assert len(differences) == 2
    assert max(differences) < 1e-4


def test_a_weight_that_does_not_arrive_is_named(prepared, tmp_path):
    trainer = ResumableGRPOTrainer(**settings(prepared, tmp_path))
    rollouts = rollouts_of(trainer, prepared)
    del trainer.model.model.norm.weight
    with pytest.raises(PipelineError, match=r"^engine = graphs: no weights arrive for 1 .*model\.norm\.weight$"):
        rollouts.sync_weights()


def test_a_cache_without_place_for_one_completion_is_refused(folder):
    done = stage(folder, TRAIN, **RUN | {"graphs": "{max_num_seqs: 10, kv_cache_gib: 1.0e-5, compile: false}"})
    assert done.returncode == 1
    assert "error: graphs.kv_cache_gib = 1e-05: holds 5 tokens, and the longest prompt" in done.stderr
