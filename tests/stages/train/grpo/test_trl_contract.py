"""The private names of TRL and transformers that the trainers override or use, see `stages.train.grpo`."""

import inspect
import re
from functools import cached_property

import pytest
from accelerate import Accelerator
from gsm8k_grpo.stages.train import grpo
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rollouts import Rollouts
from gsm8k_grpo.stages.train.grpo.selective import SelectiveGRPOTrainer
from gsm8k_grpo.stages.train.grpo.trainer import EpochSampler, ResumableGRPOTrainer
from gsm8k_grpo.stages.train.resumable import ResumableMixin
from gsm8k_grpo.stages.train.sft import ResumableSFTTrainer
from transformers import Trainer, TrainingArguments
from trl import GRPOTrainer, SFTTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import RepeatSampler

# Each of our classes with the library's class that it overrides, and the arguments of what it overrides there.
OVERRIDDEN = [
    (ResumableMixin, Trainer, "training_step", "model inputs num_items_in_batch"),
    (ResumableMixin, Trainer, "log", "logs start_time"),
    (ResumableMixin, Trainer, "_save_checkpoint", "model trial"),
    (ResumableMixin, Trainer, "_clip_grad_norm", "model"),
    (ResumableMixin, Trainer, "save_model", "output_dir _internal_call"),
    (ResumableMixin, Trainer, "_load_from_checkpoint", "resume_from_checkpoint model"),
    (ResumableMixin, Trainer, "_save_optimizer_and_scheduler", "output_dir"),
    (ResumableMixin, Trainer, "_load_optimizer_and_scheduler", "checkpoint"),
    (ResumableSFTTrainer, SFTTrainer, "training_step", "args kwargs"),
    (ResumableSFTTrainer, SFTTrainer, "log", "logs start_time"),
    (ResumableGRPOTrainer, GRPOTrainer, "_get_train_sampler", "dataset"),
    (ResumableGRPOTrainer, GRPOTrainer, "_tokenize_prompts", "prompts"),
    (ResumableGRPOTrainer, GRPOTrainer, "_generate", "prompts"),
    (EpochSampler, RepeatSampler, "__iter__", ""),
    (
        ResumableGRPOTrainer, GRPOTrainer, "_generate_single_turn",
        "prompt_ids images multimodal_fields has_tool_images",
    ),
    (ResumableGRPOTrainer, GRPOTrainer, "_generate_and_score_completions", "inputs"),
    (ResumableGRPOTrainer, GRPOTrainer, "_calculate_rewards", "inputs prompts completions completion_ids_list"),
    (ResumableGRPOTrainer, GRPOTrainer, "_load_from_checkpoint", "resume_from_checkpoint model"),
    (ResumableGRPOTrainer, GRPOTrainer, "_generate_and_score_completions", "inputs"),
    (ResumableGRPOTrainer, GRPOTrainer, "_compute_loss", "model inputs"),
    (
        ResumableGRPOTrainer, GRPOTrainer, "_get_per_token_logps_and_entropies",
        "model input_ids attention_mask logits_to_keep batch_size compute_entropy compute_aux_loss pixel_values "
        "image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles image_sizes token_type_ids "
        "mm_token_type_ids image_position_ids",
    ),
    (PackedGRPOTrainer, GRPOTrainer, "_prepare_inputs", "generation_batch"),
    (
        SelectiveGRPOTrainer, GRPOTrainer, "_get_per_token_logps_and_entropies",
        "model input_ids attention_mask logits_to_keep batch_size compute_entropy compute_aux_loss pixel_values "
        "image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles image_sizes token_type_ids "
        "mm_token_type_ids image_position_ids",
    ),
    (SelectiveGRPOTrainer, GRPOTrainer, "_compute_loss", "model inputs"),
    (Rollouts, VLLMGeneration, "_init_vllm", ""),
    (Rollouts, VLLMGeneration, "sync_weights", ""),
    (Rollouts, VLLMGeneration, "generate", "prompts images num_generations profiler"),
]  # fmt: skip
ATTRIBUTES = [
    (GRPOTrainer, name)
    for name in (
        "_step", "_buffered_inputs", "use_vllm", "vllm_generation", "vllm_importance_sampling_correction",
        "_last_loaded_step", "num_iterations", "num_generations", "temperature", "beta", "ref_model", "reward_weights",
        "reward_func_names", "top_entropy_quantile", "_entropy_bonus_enabled", "aux_loss_enabled",
    )
] + [
    (SFTTrainer, "_metrics"), (GRPOTrainer, "_metrics"), (VLLMGeneration, "llm"), (VLLMGeneration, "enable_sleep_mode"),
    (VLLMGeneration, "_llm_weights_sleeping"), (RepeatSampler, "generator"), (RepeatSampler, "num_samples"),
    *((RepeatSampler, name) for name in ("seed", "shuffle", "batch_size", "mini_repeat_count", "repeat_count")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "name", "arguments"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_an_overridden_method_has_the_expected_signature(ours, theirs, name, arguments):
    assert name in vars(ours)
    assert list(inspect.signature(getattr(theirs, name)).parameters) == ["self", *arguments.split()]


def test_no_other_method_of_the_libraries_is_overridden():
    listed = {(ours, name) for ours, _, name, _ in OVERRIDDEN}
    for ours, theirs in {(ours, theirs) for ours, theirs, _, _ in OVERRIDDEN}:
        overridden = {name for name, value in vars(ours).items() if inspect.isfunction(value) and hasattr(theirs, name)}
        assert {(ours, name) for name in overridden - {"__init__"}} <= listed
    assert not hasattr(RepeatSampler, "set_epoch")  # accelerate calls that of EpochSampler
    assert EpochSampler.set_epoch


@pytest.mark.parametrize(("theirs", "name"), ATTRIBUTES)
def test_a_used_attribute_is_set_by_the_library(theirs, name):
    assert re.search(rf"self\.{name}\b.* = ", inspect.getsource(theirs))


def test_the_order_of_a_generation_can_be_kept():
    """PackedGRPOTrainer generates, and leaves out the shuffling of TRL's `_prepare_inputs`."""
    assert list(inspect.signature(GRPOTrainer._generate_and_score_completions).parameters) == ["self", "inputs"]
    assert "shuffle_sequence_dict" in inspect.getsource(GRPOTrainer._prepare_inputs)


def test_what_is_set_for_several_ranks_exists():
    assert "evaluation_mode" in inspect.signature(Accelerator.prepare_model).parameters
    assert isinstance(inspect.getattr_static(TrainingArguments, "_setup_devices"), cached_property)


def test_a_trainer_saves_weights_that_were_gathered():
    assert list(inspect.signature(Trainer._save).parameters) == ["self", "output_dir", "state_dict"]


def test_the_contract_names_everything_that_is_overridden_or_used():
    names = {name for _, _, name, _ in OVERRIDDEN} | {
        name for theirs, name in ATTRIBUTES if theirs is not RepeatSampler
    }
    assert [name for name in sorted(names) if f"`{name}`" not in grpo.__doc__] == []
