"""Supervised fine-tuning: the tokens that are learned, and real runs of a few steps, interrupted and resumed."""

import filecmp
import shutil
import signal

import pandas as pd
import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl
from gsm8k_grpo.models.loading import load_tokenizer
from gsm8k_grpo.stages.train import sft
from safetensors.torch import load_file
from small_run import (
    MODEL_FILES,
    TRAIN,
    assert_same_run,
    killed_and_resumed,
    logged_steps,
    mlflow_run,
    run,
    stage,
    start,
    wait_for,
)
from transformers import AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

# 32 rows, 4 a step: 8 steps an epoch.
SFT = {"method": "sft", "sft.per_device_train_batch_size": 4, "sft.save_steps": 4, "sft.learning_rate": 1e-3}
ROW = {
    "id": "train-0",
    "prompt": [{"role": "user", "content": "How many are 2 and 3?"}],
    "solution": "2 and 3 are 2+3=<<2+3=5>>5.\n#### 5",
    "answer": "5",
}
# Like DeepSeek-R1's: the prompt opens a thought, and a rendered answer has lost its thoughts.
REASONING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['content'].split('</think>')[-1] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|><think>\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return load_tokenizer(str(prepared / "results/base/model"))


def configured(root, **overrides):
    return load(root / "params.yaml", {"method": "sft", **overrides})


def learned(row, tokenizer, params) -> str:
    """The text that the loss is on."""
    (tokens,) = sft.tokenize_solutions([row], tokenizer, params)
    return tokenizer.decode([label for label in tokens["labels"] if label != sft.IGNORED])


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    return run(shutil.copytree(prepared, tmp_path_factory.mktemp("sft") / "p"), TRAIN, **SFT)


# what is learned


def test_a_solution_is_learned_in_the_tags_with_its_end_and_the_question_is_not(tokenizer, root):
    assert learned(ROW, tokenizer, configured(root)) == (
        "<reasoning>\n2 and 3 are 2+3=5.\n</reasoning>\n<answer>\n5\n</answer>\n<|im_end|>"
    )
    (tokens,) = sft.tokenize_solutions([ROW], tokenizer, configured(root))
    whole_text = tokenizer.decode(tokens["input_ids"])
    assert whole_text.startswith(
        "<|im_start|>user\nHow many are 2 and 3?<|im_end|>\n<|im_start|>assistant\n<reasoning>"
    )
    masked = sum(label == sft.IGNORED for label in tokens["labels"])
    assert tokenizer.decode(tokens["input_ids"][:masked]).endswith("<|im_start|>assistant\n")
    assert tokens["labels"][masked:] == tokens["input_ids"][masked:]


def test_a_free_answer_is_learned_unchanged(tokenizer, root):
    free = configured(root, **{"extract.answers": "free"})
    assert learned(ROW, tokenizer, free) == "2 and 3 are 2+3=<<2+3=5>>5.\n#### 5<|im_end|>"


def test_a_solution_that_ends_its_own_turn_is_refused(tokenizer, root):
    free = configured(root, **{"extract.answers": "free"})
    with pytest.raises(PipelineError, match=r"^<\|im_end\|> is a control token .*'Five"):
        sft.tokenize_solutions([ROW, ROW | {"solution": "Five<|im_end|>.\n#### 6"}], tokenizer, free)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Five.", "\n</think>\n\nFive.<|im_end|>"),
        ("<think>\nTwo, three.\n</think>\nFive.", "Two, three.\n</think>\nFive.<|im_end|>"),
        ("Two, three.\n</think>\nFive.", "Two, three.\n</think>\nFive.<|im_end|>"),
    ],
)
def test_if_the_prompt_opens_a_thought_the_answer_continues_it(prepared, root, answer, expected):
    tokenizer = load_tokenizer(str(prepared / "results/base/model"))
    tokenizer.chat_template = REASONING
    assert learned(ROW | {"solution": answer}, tokenizer, configured(root, **{"extract.answers": "free"})) == expected


def test_the_loss_is_that_of_the_answers_tokens_alone(trained, tokenizer, root):
    """The first logged loss, computed again from the base model's logits over the answers' tokens."""
    rows = read_jsonl(trained / "results/extract/train.jsonl")[:32]
    model = AutoModelForCausalLM.from_pretrained(trained / "results/base/model")
    params = configured(root)
    settings = {**SFT, "variants__short__max_steps": 1, "keep_checkpoints": "[]", "sft.per_device_train_batch_size": 32}
    one_step = run(shutil.copytree(trained, trained.parent / "one"), TRAIN, **settings)
    batch = DataCollatorForLanguageModeling(tokenizer.pad_token_id)(sft.tokenize_solutions(rows, tokenizer, params))
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    chosen = logits[:, :-1].gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    by_hand = -chosen[batch["labels"][:, 1:] != sft.IGNORED].mean()
    history = pd.read_csv(one_step / "results/train/short/history.csv")
    assert history["loss"].iloc[0] == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_long_answer_is_cut_with_a_message_and_a_prompt_without_room_is_refused(tokenizer, root, capsys):
    (tokens,) = sft.tokenize_solutions([ROW], tokenizer, configured(root))
    prompt, length = tokens["labels"].count(sft.IGNORED), len(tokens["labels"])
    (cut,) = sft.tokenize_solutions([ROW], tokenizer, configured(root, **{"sft.max_length": length - 1}))
    assert cut["labels"] == tokens["labels"][:-1]
    assert capsys.readouterr().err == f"sft.max_length = {length - 1}: 1 of 1 answers are longer and were cut\n"
    with pytest.raises(PipelineError) as refused:
        sft.tokenize_solutions([ROW], tokenizer, configured(root, **{"sft.max_length": prompt}))
    assert str(refused.value) == (
        f"sft.max_length = {prompt}: the prompt of train-0 alone has {prompt} tokens; raise it, or take the row out"
    )


# runs


def test_a_run_writes_the_files_of_any_training_and_the_loss_falls(trained):
    folder = trained / "results/train/short"
    metrics, rows = read_json(folder / "metrics.json"), pd.read_csv(folder / "history.csv")
    assert (metrics["method"], metrics["steps"], metrics["prompts_seen"], metrics["epochs"]) == ("sft", 12, 48, 1.5)
    assert (metrics["prompts"], metrics["prompts_left_out_per_epoch"]) == (32, 0)
    assert metrics["effective_config"]["trainer"] == "ResumableSFTTrainer"
    assert list(rows["step"]) == list(range(1, 13))
    assert list(rows["prompts_seen"]) == list(range(4, 49, 4))
    assert metrics["tokens"] == rows["tokens"].iloc[-1]
    assert rows["tokens"].is_monotonic_increasing
    assert rows["loss"].iloc[-4:].mean() < 0.9 * rows["loss"].iloc[:4].mean()
    assert rows[["reward", "reward_std", "zero_variance_share", "kl", "clipped_share"]].isna().all(axis=None)
    assert (rows["entropy"] > 0).all()
    assert (rows["completion_tokens"] > 10).all()
    assert (rows[["seconds_generate", "seconds_score"]] == 0).all(axis=None)
    assert (rows["seconds_update"] > 0).all()
    assert (folder / "samples.jsonl").read_text() == ""
    assert {path.name for path in (folder / "model").iterdir()} == {
        path.name for path in (trained / "results/base/model").iterdir()
    }
    before, after = (load_file(trained / file) for file in ("results/base/model/model.safetensors", MODEL_FILES[0]))
    assert all(not after[name].equal(before[name]) for name in before)
    assert [folder.name for folder in (folder / "checkpoints").iterdir()] == ["9"]


def test_mlflow_has_its_curves_and_settings(trained):
    assert logged_steps(trained, "loss") == logged_steps(trained, "epoch") == list(range(1, 13))
    logged = mlflow_run(trained).data.params
    assert (logged["method"], logged["sft.max_length"]) == ("sft", "512")
    assert not any(name.startswith(("train.", "rewards.")) for name in logged)


def test_a_killed_run_resumes_and_ends_in_the_same_bytes(trained, folder):
    killed_and_resumed(folder, 4, **SFT)
    assert_same_run(trained, folder)
    assert logged_steps(folder, "loss") == list(range(1, 13))
    assert read_json(folder / "results/train/short/metrics.json")["sessions"] == 2


def test_a_signal_during_an_epoch_saves_and_the_run_ends_in_the_same_bytes(trained, folder):
    process = start(folder, TRAIN, **SFT)
    wait_for(lambda: any(folder.glob("checkpoints/short-*/kept/9")), process)  # one step into the second epoch
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    run(folder, TRAIN, **SFT)
    assert_same_run(trained, folder)


@pytest.mark.parametrize("setting", [{"sft.loss_type": "chunked_nll"}, {"sft.compile": "true"}], ids=str)
def test_a_faster_or_smaller_way_to_compute_the_loss_changes_nothing_but_rounding(trained, folder, setting):
    run(folder, TRAIN, **SFT, **setting)
    losses = [pd.read_csv(one / "results/train/short/history.csv")["loss"] for one in (trained, folder)]
    assert losses[1].to_numpy() == pytest.approx(losses[0].to_numpy(), rel=1e-4)


def test_an_adapter_is_trained_and_the_last_step_of_an_epoch_takes_the_remaining_rows(folder):
    lora = "{rank: 4, alpha: 4, targets: [q_proj, v_proj]}"
    settings = {**SFT, "lora": lora, "sft.per_device_train_batch_size": 3, "sft.gradient_accumulation_steps": 2}
    run(folder, TRAIN, **settings, sft__gradient_checkpointing="true")
    rows = pd.read_csv(folder / "results/train/short/history.csv")
    assert list(rows["prompts_seen"]) == [6, 12, 18, 24, 30, 32, 38, 44, 50, 56, 62, 64]
    assert rows["loss"].iloc[-1] < rows["loss"].iloc[0]
    assert (folder / "results/train/short/model/adapter_model.safetensors").exists()


def test_settings_of_the_other_method_do_not_start_a_new_run(trained, tmp_path):
    again = shutil.copytree(trained, tmp_path / "again")
    done = stage(again, TRAIN, **SFT, train__learning_rate=1e-5, rewards__set="published")
    assert done.returncode == 0, done.stderr
    assert "steps, " not in done.stderr
    assert filecmp.cmpfiles(trained, again, MODEL_FILES, shallow=False) == (MODEL_FILES, [], [])
    other = stage(again, TRAIN, **SFT | {"sft.learning_rate": 2e-3})
    assert "steps, " in other.stderr


def test_a_loss_that_is_not_finite_stops_the_run_with_advice(folder):
    stopped = stage(folder, TRAIN, **SFT | {"sft.learning_rate": 1e30})
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines()[-1].endswith("A lower sft.learning_rate or sft.max_grad_norm may help")
