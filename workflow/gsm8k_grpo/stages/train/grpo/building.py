"""Builds the trainer of a variant that samples completions: the model, TRL's configuration, the engine for rollouts."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl import GRPOConfig

from gsm8k_grpo.config import effects
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.rewards import reward_functions
from gsm8k_grpo.models import loading, padding
from gsm8k_grpo.models.engine import Prompt, stop_tokens, tokenize_prompts
from gsm8k_grpo.models.loading import Source
from gsm8k_grpo.records import Example
from gsm8k_grpo.stages.train import sharding
from gsm8k_grpo.stages.train.grpo import agreement, packing
from gsm8k_grpo.stages.train.grpo.graph_rollouts import GraphRollouts
from gsm8k_grpo.stages.train.grpo.objective import GRPO, Objective
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.padded import PaddedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rollouts import Rollouts
from gsm8k_grpo.stages.train.grpo.samples import SampleRecorder
from gsm8k_grpo.stages.train.grpo.trainer import ResumableGRPOTrainer
from gsm8k_grpo.stages.train.resumable import arguments

# Keys of the section `train` that are not TRL's.
OWN_KEYS = {
    "prompts", "stop_without_signal", "sample_steps", "sample_prompts", "warmup_ratio", "share_prompts", "compile",
    "cuda_graphs", "old_log_probs",
}  # fmt: skip


def build_trainer(
    rows: list[Example],
    variant: str,
    start: Source,
    params: Params,
    run_folder: Path,
    objective: Objective = GRPO,
) -> ResumableGRPOTrainer:
    """The trainer of a variant, see `TrainingMethod.build_trainer`.

    Args:
        objective: the advantages and the loss of the variant's method, by default those of GRPO.

    Raises:
        PipelineError: if a prompt does not fit the model's context, or if the batches, packed or padded, are not right
            for the model.
    """
    for sentence in effects.without_effect(variant, params):
        print(f"train {variant}: {sentence}", file=sys.stderr)
    prompts = _tokenized(rows, start.model, params)
    _require_context(rows, prompts, start.model, params)
    network, tokenizer = _load_model(start, params, whole=not params.is_sharded(variant))
    loading.keep_end_tokens(network, tokenizer)
    args = _config(variant, stop_tokens(tokenizer), params, run_folder)
    if params.is_sharded(variant):
        assert isinstance(network, PreTrainedModel)  # without adapters
        sharding.shard(network, args.device, bool(args.bf16))
    rewards = params.variant_rewards(variant)
    trainer = _trainer_class(params)(
        objective=objective,
        model=network,
        processing_class=tokenizer,
        reward_funcs=reward_functions(rewards.set, rewards.weights, params.extract.answer_form),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]),
    )
    if isinstance(trainer, PackedGRPOTrainer):
        agreement.require(trainer)
    elif params.backend == "trl":
        with trainer.accelerator.autocast():  # adapters in 32 bit on weights in 16 bit need it
            padding.require_ignored(network, tokenizer, prompts, "choose a model whose layers do; batches are padded")
            padding.count_positions_from_the_first_token(network, prompts[0])
            if trainer.ref_model is not None:
                padding.count_positions_from_the_first_token(trainer.ref_model, prompts[0])
    if params.backend == "trl":
        # Each step reads the rows of a whole generation, which takes a hundred times as long from an Arrow table.
        trainer.train_dataset = trainer.train_dataset.to_list()  # type: ignore[union-attr]
    if params.engine != "transformers" and params.backend == "trl":
        rollouts = (Rollouts if params.engine == "vllm" else GraphRollouts)(trainer, start.base or start.model, params)
        train = params.train
        wanted = train.vllm_importance_sampling_correction and train.old_log_probs == "computed"
        trainer.generate_with(rollouts, corrected=wanted and objective.corrects_for_vllm)
    trainer.remove_callback(PrinterCallback)  # the progress bar shows the log instead
    samples = SampleRecorder(trainer, params.train.sample_steps, params.train.sample_prompts, list(rewards.weights))
    trainer.savers.append(samples.save)
    trainer.add_callback(samples)
    return trainer


def _tokenized(rows: list[Example], model: str, params: Params) -> list[list[int]]:
    messages: list[Prompt] = [row["prompt"] for row in rows]
    return tokenize_prompts(messages, loading.load_tokenizer(model), params.chat_template_kwargs)


def _require_context(rows: list[Example], prompts: list[list[int]], model: str, params: Params) -> None:
    """Require that every prompt fits the model's context, and vLLM's, together with the longest completion.

    Raises:
        PipelineError: naming the longest prompt and what to change.
    """
    own = getattr(loading.load_config(model).get_text_config(), "max_position_embeddings", None)
    limits = {"the model's context": own} if own else {}  # models with relative positions have no limit
    if params.engine == "vllm" and params.vllm:
        limits["vllm.max_model_length"] = params.vllm.max_model_length
    tokens, row_id = max((len(ids), row["id"]) for ids, row in zip(prompts, rows, strict=True))
    completion = params.train.max_completion_length
    for name, limit in limits.items():
        if tokens + completion > limit:
            raise PipelineError(
                f"train: the longest prompt ({row_id}) has {tokens} tokens; with a completion of "
                f"train.max_completion_length ({completion}) that is more than {name} of {limit}; lower "
                f"train.max_completion_length, or take long questions out of the data{_more_context(name, params)}"
            )


def _more_context(name: str, params: Params) -> str:
    if name.startswith("vllm"):
        return f", or raise {name}"
    return ", or raise base.architecture.context" if params.model == "scratch" else ""


def _trainer_class(params: Params) -> Callable[..., ResumableGRPOTrainer]:
    if params.backend == "unsloth":
        return ResumableGRPOTrainer  # Unsloth has a forward pass of its own
    train, sampled = params.train, params.train.old_log_probs == "sampled"
    if train.share_prompts:
        return partial(PackedGRPOTrainer, compiled=train.compile, sampled=sampled, graphs=train.cuda_graphs)
    return partial(PaddedGRPOTrainer, sampled=sampled)


def _load_model(
    start: Source, params: Params, whole: bool
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """The model to train, with adapters if the configuration has any, and its tokenizer.

    Args:
        whole: whether a GPU gets all weights; else they stay in the computer's memory, for `sharding.shard`.
    """
    if params.backend == "unsloth":
        from gsm8k_grpo.stages.train.grpo import unsloth_backend

        return unsloth_backend.load(start, params)
    # Flash attention computes in 16 bit only; in 32 bit a packed batch gets a mask instead.
    flash = params.train.share_prompts and params.precision != "float32"
    attention = packing.ATTENTION if flash else "sdpa"
    try:
        network, tokenizer = loading.load(start.without_adapter(), params, attention, to_gpu=whole)
    except KeyError as error:
        if error.args != (packing.ATTENTION,):
            raise
        raise agreement.refusal(start.model, "its attention can't be replaced") from error
    return loading.adapt(network, params.lora, start.adapter) if params.lora else network, tokenizer


def _config(variant: str, stop_tokens: list[int], params: Params, run_folder: Path) -> GRPOConfig:
    """TRL's configuration: the section `train`, most of whose keys are TRL's, and the arguments of every method."""
    vllm_of_unsloth = params.backend == "unsloth" and params.engine == "vllm"
    return GRPOConfig(
        **params.train.of_one_gpu(params.gpus_of(variant)).model_dump(exclude=OWN_KEYS),
        **arguments(variant, params, run_folder, params.train.warmup_ratio),
        reward_weights=list(params.variant_rewards(variant).weights.values()),
        # The backend trl gets its engine in `build_trainer`.  Unsloth has its own vLLM, which these settings start.
        use_vllm=vllm_of_unsloth,
        vllm_mode="colocate",
        disable_dropout=True,  # models.loading does so too; backend unsloth has a loader of its own
        generation_kwargs={"stop_token_ids" if vllm_of_unsloth else "eos_token_id": stop_tokens},
        chat_template_kwargs=params.chat_template_kwargs,
    )
