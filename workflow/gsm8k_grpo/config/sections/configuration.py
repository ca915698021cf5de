"""The whole configuration: every key outside of a section, and every section."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from gsm8k_grpo.config.sections.data import Download, Extract
from gsm8k_grpo.config.sections.evaluation import Compare, Evaluate, Tracking
from gsm8k_grpo.config.sections.model import Base, Graphs, Lora, Vllm
from gsm8k_grpo.config.sections.section import NAME, Count, Positive, Section, Seed, Text
from gsm8k_grpo.config.sections.training import OnlineDpo, Ppo, Rewards, Sft, Train, Variant
from gsm8k_grpo.records import Method

# The type is checked with the names, in params.Params.
TemplateValue = Annotated[Any, WithJsonSchema({"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]})]


class Configuration(Section):
    """The keys; `params.Params` checks what one section requires of another."""

    recipe: Text
    """Recipe, a file of workflow/recipes without `.yaml`: model, data, machine and training settings."""
    seed: Seed
    """Seed of all randomness: problems, splits, weights, sampling and bootstrap."""
    seeds: list[Seed]
    """Further seeds, for example [43, 44]: each variant is also trained and evaluated with each of them, as `short_s43`
    and so on, and the report shows the spread.  They change training and sampling; data and base model stay those of
    `seed`."""
    threads: Count
    """CPU threads of PyTorch.  Results are only equal to the byte with the same number."""
    source: Literal["hub", "local", "generated"]
    """Where the problems come from: hub (a data set on the Hugging Face hub), local (a folder, see `path`) or generated
    (made here from templates)."""
    path: Text | None
    """Folder for `source: local`, with one file for train (train.jsonl, train.csv or train.parquet) and one for
    test.  Their columns are in `download.local`."""
    model: Text
    """Model to train: a name on the Hugging Face hub, a folder, or scratch, which makes and pretrains a small one as
    the section `base` describes."""
    chat_template_kwargs: dict[Annotated[str, Field(pattern=NAME)], TemplateValue]
    """Variables for the model's chat template, for example {enable_thinking: false} for Qwen3; the model's description
    names those that its template knows.  They hold wherever a prompt is rendered."""
    backend: Literal["trl", "unsloth"]
    """Library that loads the model and computes the loss of GRPO: trl, or unsloth, which takes less memory but only
    trains adapters.  Both run TRL's GRPOTrainer."""
    engine: Literal["transformers", "vllm", "graphs"]
    """What generates completions in training and evaluation: transformers (any machine), vllm (a GPU, several times
    faster), or graphs (the model with a static KV cache; on a GPU a step is one CUDA graph, which is faster than vllm
    with small models)."""
    precision: Literal["float32", "mixed", "bfloat16", "float16"]
    """Number format of weights and computation: float32, mixed (weights in float32, computation in bfloat16), bfloat16,
    or float16 for GPUs without bfloat16."""
    quantization: Literal["4bit"] | None
    """4bit loads the weights of the model quantised, which needs `lora`; null loads them in `precision`."""
    vram_gib: Positive | None
    """GPU memory that a run may take, in GiB, so that a large GPU shows what a small one can do; null sets no limit."""
    gpus: Count
    """GPUs that train one variant together, each a part of every batch; without GPUs, as many processes on the CPU.
    The optimizer steps are the same for any number."""
    shard_weights: bool
    """Whether the GPUs that train a variant together divide its weights, gradients and optimizer state between them
    (FSDP2), for a model that does not fit one of them; false gives each a copy of all.  Only without `lora`."""
    lora: Lora | None
    """Low-rank adapters to train instead of all weights, for example {rank: 32, alpha: 32, targets: [q_proj, v_proj]};
    null trains all weights."""
    vllm: Vllm | None
    """Settings of `engine: vllm`, for example {max_model_length: 512, max_num_seqs: 256, kv_cache_gib: 4, sleep:
    false}; null if another engine generates."""
    graphs: Graphs | None
    """Settings of `engine: graphs`, for example {max_num_seqs: 512, kv_cache_gib: 4, compile: true}; null if another
    engine generates."""
    method: Method
    """Training method of the variants that name none: grpo, rloo, online_dpo, ppo, or sft (supervised fine-tuning on
    the solutions)."""
    download: Download
    """The data set for each `source`."""
    extract: Extract
    """How prompts and gold answers are made of the data."""
    base: Base | None
    """The small model that `model: scratch` makes and pretrains; null for other models."""
    train: Train
    """GRPO: settings of TRL's GRPOTrainer under TRL's names."""
    sft: Sft
    """Supervised fine-tuning: settings of TRL's SFTTrainer under TRL's names.  It learns the rows that `train.prompts`
    takes."""
    online_dpo: OnlineDpo
    """Online DPO: the keys that only this method has.  All others are those of the section `train`."""
    ppo: Ppo
    """PPO: the keys that only this method has.  All others are those of the section `train`."""
    rewards: Rewards
    """Reward functions of GRPO.  A completion's reward is the weighted sum of their values."""
    variants: dict[Annotated[str, Field(pattern=NAME)], Variant]
    """Training runs by name; each is evaluated, compared and reported.  A variant may have a method or rewards of its
    own; the controls that a gain is compared with are such variants."""
    keep_checkpoints: list[Count]
    """Steps after which the weights of every variant are kept in addition to the final ones: `short@100` is short after
    100 steps.  A variant with `max_steps` keeps those below its length."""
    evaluate: Evaluate
    """What every model is asked after training, and how it generates its answers."""
    compare: Compare
    """How models are compared."""
    tracking: Tracking
    """Where MLflow keeps its copy of runs and results."""
