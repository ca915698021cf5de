"""Checks before any work starts that the sections of a configuration agree with each other.

Every error names the key, its value, and what to set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsm8k_grpo.config import errors
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.sections import Method, Train
from gsm8k_grpo.gsm8k.rewards import names_for

if TYPE_CHECKING:
    from gsm8k_grpo.config.params import Params

# Names that a variable of a chat template can't have: the arguments of transformers' apply_chat_template, and what it
# passes to the template.
TAKEN_NAMES = {
    "conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs",
}  # fmt: skip


def require(params: Params) -> None:
    """Require that the sections agree.

    Raises:
        ValueError: at the first disagreement.
    """
    machine = (_machine, _cuda_graphs, _gpus, _shards)
    for check in (_seeds, _generated_rows, _chat_template, *machine, _methods, _correction):
        check(params)


def _seeds(params: Params) -> None:
    """No seed occurs twice, and no run with a further seed has the name of a variant."""
    if len({params.seed, *params.seeds}) <= len(params.seeds):
        raise ValueError(f"seeds = {params.seeds}: must hold each seed once, and not {params.seed}, the first (seed)")
    for run, (variant, seed) in params.further_runs.items():
        if run in params.variants:
            raise ValueError(f"variants.{run}: is the name of {variant} with seed {seed}; choose another name")


def _generated_rows(params: Params) -> None:
    """The generator makes enough rows; for other sources, the stages check that when they read the rows."""
    if params.source != "generated":
        return
    rows, validation = params.download.generated.train_rows, params.extract.validation_rows
    prompts = params.train.prompts or params.train.prompts_per_generation
    if rows - validation < prompts:
        raise ValueError(
            f"download.generated.train_rows = {rows}: must be at least {validation + prompts}, the sum of "
            f"extract.validation_rows ({validation}) and the rows for training ({prompts}, see train.prompts)"
        )


def _chat_template(params: Params) -> None:
    """Variables for the chat template have a name that is free, and a value that every library passes on."""
    for name, value in params.chat_template_kwargs.items():
        key = f"chat_template_kwargs.{name} = {errors.as_written(value)}"
        if name in TAKEN_NAMES:
            raise ValueError(f"{key}: is set by the pipeline; name a variable of the model's chat template")
        if not isinstance(value, str | int | float):
            raise ValueError(f"{key}: must be a text, a number, true or false; write a date in quotes")


def _machine(params: Params) -> None:
    """Backend, engine, precision and adapters can be combined."""
    if params.engine == "vllm" and params.vllm is None:
        raise ValueError(
            "vllm = null: engine 'vllm' needs it, for example {max_model_length: 512, max_num_seqs: 256, "
            "kv_cache_gib: 4, sleep: false}"
        )
    if params.engine == "graphs":
        _graphs(params)
    if params.train.old_log_probs == "sampled" and params.engine == "transformers":
        raise ValueError(
            "train.old_log_probs = sampled: needs engine 'vllm' or 'graphs', which return them; set computed"
        )
    if params.train.old_log_probs == "sampled" and params.backend == "unsloth":
        raise ValueError("train.old_log_probs = sampled: needs backend 'trl'; set computed")
    if params.train.compile and params.engine == "transformers":
        raise ValueError(
            "train.compile = true: needs engine 'vllm' or 'graphs'; with engine 'transformers' the layers also "
            "generate, and would be compiled again for every length"
        )
    if params.quantization and params.engine == "vllm" and params.backend == "trl":
        raise ValueError(
            f"quantization = {params.quantization}: with engine 'vllm' needs backend 'unsloth'; "
            "set engine: transformers, or backend: unsloth"
        )
    if params.lora and params.engine == "vllm" and params.precision == "float32":
        raise ValueError("precision = float32: engine 'vllm' only takes adapters in 16 bit; set mixed or bfloat16")
    if params.lora is None:
        for key, value in (("quantization", params.quantization), ("precision", params.precision)):
            if value in ("4bit", "float16"):
                raise ValueError(f"{key} = {value}: only adapters can be trained in it; set the section lora")
        if params.backend == "unsloth":
            raise ValueError("backend = unsloth: only trains adapters; set the section lora, or backend: trl")
    started = [
        name for name in params.variants if params.variants[name].start and params.traits(name).learns_from_rewards
    ]
    if params.backend == "unsloth" and params.train.beta and started:
        raise ValueError(
            f"train.beta = {params.train.beta:g}: backend 'unsloth' is not known to take the start of {started[0]} "
            "as the reference of its KL term; set train.beta: 0, or backend: trl"
        )
    own_loss = [name for name in params.variants if params.variant_method(name) not in ("grpo", "sft")]
    if params.backend == "unsloth" and own_loss:
        raise ValueError(
            f"backend = unsloth: has the loss of method grpo alone, and variant {own_loss[0]} is of method "
            f"{params.variant_method(own_loss[0])}; set backend: trl"
        )
    if params.backend == "unsloth" and (params.train.share_prompts or params.train.compile):
        raise ValueError("backend = unsloth: has its own loss; train.share_prompts and train.compile must be false")


def _graphs(params: Params) -> None:
    if params.graphs is None:
        raise ValueError(
            "graphs = null: engine 'graphs' needs it, for example {max_num_seqs: 512, kv_cache_gib: 4, compile: true}"
        )
    if params.backend == "unsloth":
        raise ValueError("backend = unsloth: generates with engine 'vllm' or 'transformers'; set one of these")
    if params.quantization:
        raise ValueError(
            f"quantization = {params.quantization}: engine 'graphs' takes weights in 16 or 32 bit; set engine: "
            "transformers, or quantization: null"
        )


def _cuda_graphs(params: Params) -> None:
    """With CUDA graphs, the update runs on packed batches and shares its memory with nothing else."""
    if not params.train.cuda_graphs:
        return
    if params.backend == "unsloth":
        raise ValueError(
            "train.cuda_graphs = true: backend 'unsloth' has an update of its own; set cuda_graphs: false, or "
            "backend: trl"
        )
    if not params.train.share_prompts:
        raise ValueError(
            "train.cuda_graphs = true: graphs are of packed batches; set share_prompts: true, or cuda_graphs: false"
        )
    if params.engine == "vllm" and params.vllm and params.vllm.sleep:
        raise ValueError(
            "train.cuda_graphs = true: the graphs of the update keep their memory while vLLM generates, and with "
            "vllm.sleep the two take turns; set vllm.sleep: false, engine: graphs, or cuda_graphs: false"
        )


def _gpus(params: Params) -> None:
    """The GPUs of each variant can share its optimizer steps."""
    for variant in params.variants:
        gpus = params.gpus_of(variant)
        if gpus > 1 and params.backend == "unsloth" and params.traits(variant).learns_from_rewards:
            raise ValueError(f"gpus = {gpus}: backend 'unsloth' trains on one; set backend: trl, or gpus: 1")
        settings = params.settings_of(variant)
        if isinstance(settings, Train):
            unit, keys, parts = "prompts", " / num_generations", settings.prompts_per_step
        else:
            batches = settings.gradient_accumulation_steps
            unit, keys, parts = "rows", "", settings.per_device_train_batch_size * batches
        if parts % gpus:
            raise ValueError(
                f"gpus = {gpus}: variant {variant} has {parts} {unit} in an optimizer step "
                f"(per_device_train_batch_size * gradient_accumulation_steps{keys}), which {gpus} GPUs can't share "
                f"evenly; choose a number that divides {parts}"
            )


def _shards(params: Params) -> None:
    """Weights are divided only if all of them are trained, and by several GPUs."""
    if not params.shard_weights:
        return
    if params.lora:
        raise ValueError(
            "shard_weights = true: divides weights that are trained, and with lora only adapters are; set "
            "shard_weights: false, or lora: null"
        )
    sharded = [variant for variant in params.variants if params.is_sharded(variant)]
    if not sharded:
        raise ValueError(
            "shard_weights = true: every variant is trained by one GPU; set gpus: 2, for example, or "
            "shard_weights: false"
        )
    if params.train.cuda_graphs:
        raise ValueError(
            "train.cuda_graphs = true: graphs hold the weights in a fixed place, and shard_weights gathers them for "
            "each pass; set cuda_graphs: false, or shard_weights: false"
        )
    for variant in sharded:
        optim, section = params.settings_of(variant).optim, params.traits(variant).section
        if not optim.startswith("adamw_torch"):
            raise ValueError(
                f"{section}.optim = {optim}: its state can't be divided by shard_weights; choose from adamw_torch, "
                "adamw_torch_fused"
            )


def _methods(params: Params) -> None:
    """Variants have rewards and gold answers if their method learns from rewards, and no rewards otherwise."""
    for name, variant in params.variants.items():
        method, rewarded = params.variant_method(name), params.traits(name).learns_from_rewards
        if variant.rewards is not None and not rewarded:
            raise ValueError(
                f"variants.{name}.rewards: method {method} learns the answers and has no rewards; leave them out, "
                "or set method: grpo"
            )
        if rewarded and params.extract.answers == "free":
            raise ValueError(
                f"extract.answers = free: variant {name} is of method {method}, whose rewards need a number as "
                "the answer to each question; set answers: gsm8k, or method: sft"
            )
        for reward in params.reward_names(name):
            _form(params, name, reward)
        _pairs(params, name, method)


def _pairs(params: Params, variant: str, method: Method) -> None:
    """A batch holds whole groups if the method makes a pair of each group."""
    batch, group = params.train.per_device_train_batch_size, params.train.num_generations
    if METHODS[method].learns_from_pairs and batch % group:
        raise ValueError(
            f"train.per_device_train_batch_size = {batch}: must be a multiple of num_generations ({group}) for "
            f"method {method} of variant {variant}, which makes a pair of each group"
        )


def _correction(params: Params) -> None:
    """The loss vespo can't correct for vLLM by whole completions."""
    train, mode = params.train, params.train.vllm_importance_sampling_mode
    corrected = train.vllm_importance_sampling_correction and train.old_log_probs == "computed"
    if params.engine != "transformers" and corrected and train.loss_type == "vespo" and mode.startswith("sequence"):
        raise ValueError(
            f"train.vllm_importance_sampling_mode = {mode}: loss_type 'vespo' needs one of token_truncate, token_mask"
        )


def _form(params: Params, variant: str, reward: str) -> None:
    of, form = params.variant_rewards(variant).set, params.extract.answer_form
    usable = names_for(of, form)
    if reward not in usable:
        choices = f"choose from {', '.join(usable)}" if usable else "set rewards.set: robust"
        raise ValueError(
            f"extract.answer_form = {form}: the reward {reward} of the set '{of}', which variant {variant} uses, "
            f"knows tags only; {choices}"
        )
