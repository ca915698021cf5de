"""Gradients that overflow float16: the loss scaler skips the step, which is counted; many in a row stop training.

The scaler is PyTorch's own, on the CPU, and the gradient of one weight is made infinite at chosen steps.
"""

import re

import pytest
import torch
from datasets import Dataset
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.stages.base.corpus import Document
from gsm8k_grpo.stages.base.tokenizer import train_tokenizer
from gsm8k_grpo.stages.train.history import HistoryFormat, skipped_steps
from gsm8k_grpo.stages.train.resumable import SKIPPED_IN_A_ROW
from gsm8k_grpo.stages.train.sft import ResumableSFTTrainer
from transformers import AutoConfig, AutoModelForCausalLM
from trl import SFTConfig

STEPS = 20


def trainer(folder, overflowing: set[int], optim: str = "adamw_torch") -> ResumableSFTTrainer:
    """A trainer whose loss is scaled, and whose gradient overflows at the steps `overflowing`."""
    tokenizer = train_tokenizer([Document([], f"{number} pears") for number in range(50)], 300)
    config = AutoConfig.for_model(
        "qwen2", vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    made = ResumableSFTTrainer(
        model=AutoModelForCausalLM.from_config(config),
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=str(folder), use_cpu=True, bf16=False, max_steps=STEPS, per_device_train_batch_size=1,
            logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to="none", disable_tqdm=True,
            learning_rate=1e-2, optim=optim, gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 7, 8]}] * 4),
    )  # fmt: skip
    made.accelerator.scaler = torch.amp.GradScaler("cpu")
    weight = made.model.get_input_embeddings().weight
    weight.register_hook(lambda grad: grad * (torch.inf if made.state.global_step + 1 in overflowing else 1.0))
    return made


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_a_skipped_step_is_counted_and_said_once_and_training_goes_on(tmp_path, capsys, optim):
    made = trainer(tmp_path, {1, 2, 5}, optim)
    made.train()
    rows = HistoryFormat(lambda step: step, []).rows(made.state.log_history)
    assert [row["step"] for row in rows if row["grad_norm"] is None] == [1, 2, 5]
    assert (len(rows), skipped_steps(rows)) == (STEPS, 3)
    assert made.accelerator.scaler.get_scale() == 2**16 / 2**3
    said = [line for line in capsys.readouterr().err.splitlines() if "overflow" in line]
    assert len(said) == 1
    assert said[0].startswith("step 1: the gradients overflow float16 ")


def test_as_many_skipped_steps_in_a_row_as_bring_the_scale_to_one_stop_training(tmp_path):
    made = trainer(tmp_path, set(range(2, STEPS + 1)))
    with pytest.raises(PipelineError) as stopped:
        made.train()
    step = SKIPPED_IN_A_ROW + 1  # the first step was good
    assert re.match(rf"step {step}: the gradients overflow float16 for the 17th .* is (inf|nan); ", str(stopped.value))
    assert made.accelerator.scaler.get_scale() < 1  # the last step had a scale of 1


def test_skipped_steps_that_are_not_in_a_row_do_not_stop_training(tmp_path):
    made = trainer(tmp_path, set(range(1, STEPS + 1)) - {10})
    made.train()
    assert made.state.global_step == STEPS


def test_a_loss_that_is_not_a_number_stops_training_though_the_step_is_skipped(tmp_path):
    made = trainer(tmp_path, set())
    made.model.get_input_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(PipelineError, match=r"^step 1: loss is nan; "):
        made.train()
