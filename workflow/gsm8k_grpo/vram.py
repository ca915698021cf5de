"""The memory plan: what a training run takes on a card, part by part, before anything is downloaded.

Each part is a formula over the model's shape and the configuration.  Where a formula can't be derived from what is
stored, its constant stands below, by itself, to be set from measured peaks (docs/benchmarks.md).
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import ValidationError

from gsm8k_grpo import layers, logprobs, models, shapes
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.params import Params, Train
from gsm8k_grpo.shapes import Shape

GIB = 2**30

# A weight in NF4 with doubly quantised scales: half a byte, a byte for every 64 weights, four for every 256 of those.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments of every weight; in 8 bit with a scale of four bytes for every 256.
ADAMW_8BIT_BYTES = 2 * (1 + 4 / 256)
# A prompt: the longest of GSM8K's, with system prompt and chat template; where the published set-ups cut.
PROMPT_TOKENS = 256

# Bytes that a layer keeps of each token for the backward pass, for every unit of the hidden and of the intermediate
# size, computed in 16 bit; keys and values come to these.  Counted on PyTorch's saved tensors (tests/test_vram.py).
# Hidden: inputs of two norms in 32 bit (8), of the projections (4), queries and attention's output (4); where weights
# are trained, outputs of the norms (4).  Intermediate: gate, its activation, up, their product.
KEPT_HIDDEN = 16
KEPT_HIDDEN_TRAINED = 20
KEPT_INTERMEDIATE = 8
# Compiled, what takes no matrix product is computed anew in the backward pass.
KEPT_HIDDEN_COMPILED = 12
KEPT_INTERMEDIATE_COMPILED = 6
# Gradients on their way through a layer, as a share of what the layer keeps.
PASSING = 0.5
# Bytes for each logit at the peak of the backward pass.  TRL: in 32 bit, and the gradients through its two uses.  In
# chunks these stand beside the forward pass made anew; compiled, few of them are ever written.
LOGIT_BYTES = 16
CHUNK_LOGIT_BYTES = 20
COMPILED_LOGIT_BYTES = 8
UNSLOTH_CHUNKS = 4  # parts into which Unsloth's loss cuts a batch
# vLLM's captured graphs and work space, as measured with rtx4090; the context, kernels and libraries of CUDA.
GRAPHS_GIB = 1.9
CONTEXT_GIB = 0.6


@dataclass(frozen=True)
class Part:
    """What takes memory; `counted` is false where something larger, which it takes turns with, has given its back."""

    name: str
    gib: float
    remark: str
    counted: bool = True


@dataclass(frozen=True)
class Plan:
    parts: list[Part]

    @property
    def gib(self) -> float:
        return sum(part.gib for part in self.parts if part.counted)

    def table(self) -> str:
        """A line for each part that takes memory, in parentheses where it is not counted, and the total."""
        figures = [
            (part, f"{part.gib:.2f}" if part.counted else f"({part.gib:.2f})") for part in self.parts if part.gib
        ]
        lines = [f"{part.name:<18}{figure:>9}  {part.remark}" for part, figure in figures]
        return "\n".join([f"{'part':<18}{'GiB':>9}", *lines, f"{'total':<18}{self.gib:>9.2f}"])


def plan(params: Params, shape: Shape, prompt: int = PROMPT_TOKENS) -> Plan:
    """The memory that training takes at its peak; `prompt` is the length of the longest prompt in tokens."""
    generation, update = _generation(params, shape, prompt), _update(params, shape, prompt)
    if params.vllm and params.vllm.sleep:
        # The two take turns: what the smaller one needs, the larger one has given back.
        if Plan(generation).gib < Plan(update).gib:
            generation = _not_counted(generation, "given back during the update")
        else:
            update = _not_counted(update, "while vLLM sleeps")
    parts = [
        *_model(params, shape),
        *_training(params, shape),
        *generation,
        *update,
        Part("CUDA graphs", GRAPHS_GIB if params.engine == "vllm" else 0.0, "vLLM's, with its work space"),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _not_counted(parts: list[Part], why: str) -> list[Part]:
    return [replace(part, remark=f"{part.remark}; {why}", counted=False) for part in parts]


def _stored(params: Params) -> int:
    return models.DTYPES[params.precision].itemsize  # bytes of a weight


def _computed(params: Params) -> int:
    return models.DTYPES[models.COMPUTED[params.precision]].itemsize  # bytes of a number in the computation


def _model(params: Params, shape: Shape) -> list[Part]:
    """The weights, and their copies in the type of the computation and for the KL term."""
    size = _stored(params)
    whole = shape.parameters * size
    loaded, kind = whole, "float32" if params.precision == "mixed" else params.precision
    if params.quantization:
        # Embeddings, head and norms stay in the precision of the computation.
        loaded = shape.projected * NF4_BYTES + (shape.parameters - shape.projected) * size
        kind = f"4 bit, {shape.parameters - shape.projected:,} of them in {params.precision}"
    # Of weights that are trained, autocast keeps a copy through the forward and the backward pass.
    copied = params.precision == "mixed" and params.lora is None
    # With adapters the reference is the same model with the adapters switched off.
    reference = params.train.beta > 0 and params.lora is None
    return [
        Part("weights", loaded / GIB, f"{shape.parameters:,} in {kind}"),
        Part("copy in bfloat16", copied * shape.parameters * 2 / GIB, "precision: mixed"),
        Part("reference model", reference * whole / GIB, "train.beta is above 0"),
    ]


def _training(params: Params, shape: Shape) -> list[Part]:
    """What training keeps of each trained weight: adapters are in 32 bit, full weights in the model's precision."""
    trained = shape.adapter(params.lora) if params.lora else shape.parameters
    size = 4 if params.lora else _stored(params)
    # The head's new gradient stands beside the sum of those before; it is the largest by far.
    head = 0 if params.lora else shape.vocabulary * shape.hidden
    moments = ADAMW_8BIT_BYTES if params.train.optim.endswith("8bit") else 2 * size
    return [
        Part("adapter", trained * size / GIB if params.lora else 0.0, f"{trained:,} in float32"),
        Part("gradients", (trained + head) * size / GIB, f"of {trained:,} weights{', twice of the head' * bool(head)}"),
        Part("optimizer", trained * moments / GIB, params.train.optim),
    ]


def _generation(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """What generates: vLLM with weights of its own, or shared with Unsloth; or the model itself."""
    size = _computed(params)
    if params.engine == "vllm":
        own = shape.parameters * size if params.backend == "trl" else 0
        return [
            Part("vLLM's weights", own / GIB, f"a copy of its own in {models.COMPUTED[params.precision]}"),
            Part("KV cache", params.vllm.kv_cache_gib, "vllm.kv_cache_gib"),
        ]
    train = params.train
    sequences = train.per_device_train_batch_size * train.steps_per_generation
    length = prompt + train.max_completion_length
    cached = sequences * length * shape.layers * shape.cache_width * size
    return [Part("KV cache", cached / GIB, f"{sequences} sequences of {length} tokens")]


def _update(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """The forward and the backward pass of one batch."""
    tokens = _tokens(params.train, prompt)
    size = _computed(params)
    layer = tokens * kept(params, shape)
    if params.train.gradient_checkpointing:
        # Kept is each layer's input, by Unsloth in the computer's memory; one layer at a time is computed anew.
        inputs = 0 if params.backend == "unsloth" else shape.layers * tokens * shape.hidden * size
        activations, remark = inputs + layer, f"{tokens:,} tokens, recomputed layer by layer"
    else:
        activations, remark = shape.layers * layer, f"{tokens:,} tokens in {shape.layers} layers"
    activations += PASSING * layer
    logits, each = _logits(params)
    # A quantised matrix is restored for its product.
    restored = 0 if params.quantization is None else shape.hidden * shape.intermediate * size
    return [
        Part("activations", activations / GIB, remark),
        Part("logits", logits * shape.vocabulary * each / GIB, f"{logits:,} tokens by {shape.vocabulary:,}"),
        Part("restored matrix", restored / GIB, "4 bit, for its product"),
    ]


def kept(params: Params, shape: Shape) -> float:
    """Bytes that a layer keeps of each token for the backward pass."""
    if params.train.compile:
        hidden, intermediate = KEPT_HIDDEN_COMPILED, KEPT_INTERMEDIATE_COMPILED
    else:
        hidden, intermediate = KEPT_HIDDEN if params.lora else KEPT_HIDDEN_TRAINED, KEPT_INTERMEDIATE
    in_16_bit = hidden * shape.hidden + intermediate * shape.intermediate + 2 * shape.cache_width
    return in_16_bit * _computed(params) / 2


def _tokens(train: Train, prompt: int) -> int:
    """Tokens of a batch in the model."""
    prompts = train.per_device_train_batch_size
    if train.share_prompts:
        prompts //= train.num_generations
    return prompts * prompt + train.per_device_train_batch_size * train.max_completion_length


def _logits(params: Params) -> tuple[int, int]:
    """Tokens whose logits stand in memory together, and bytes for each logit."""
    completed = params.train.per_device_train_batch_size * params.train.max_completion_length
    if params.train.share_prompts:
        each = COMPILED_LOGIT_BYTES if params.train.compile else CHUNK_LOGIT_BYTES
        return min(logprobs.CHUNK, completed), each
    if params.backend == "unsloth":
        return -(-completed // UNSLOTH_CHUNKS), COMPILED_LOGIT_BYTES
    return completed, LOGIT_BYTES


def card(params: Params) -> float | None:
    """GiB that the run may take: vram_gib or the whole card, whichever is less; None without both."""
    found = torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else None
    return min((size for size in (params.vram_gib, found) if size is not None), default=None)


def check(params: Params) -> None:
    """Refuse a training run that can't fit the card; where there is no card and no vram_gib, nothing is refused.

    Raises:
        PipelineError: with the table and what to change.
    """
    size = card(params)
    if size is None:
        return
    shape = shapes.of(params)
    if plan(params, shape).gib > size:
        raise PipelineError(f"the card is too small for this training:\n{report(params, shape, size)}")


def report(params: Params, shape: Shape, size: float | None) -> str:
    """The table, whether it fits `size` GiB, and what to change where it doesn't."""
    planned = plan(params, shape)
    head = f"recipe {params.recipe}, model {params.model}{'' if size is None else f', {size:g} GiB'}"
    if size is None:
        verdict = "No card is named (vram_gib or --card) and none is here."
    elif planned.gib <= size:
        verdict = f"It fits; {size - planned.gib:.2f} GiB are left."
    else:
        verdict = f"It does not fit: {planned.gib - size:.2f} GiB are missing.\n{_advice(params, shape, size)}"
    return f"{head}\n\n{planned.table()}\n\n{verdict}"


def _advice(params: Params, shape: Shape, size: float) -> str:
    """Changes that save memory, those that cost least first, until it fits."""
    lines = ["Change, one after the other:"]
    for change in _changes(params, shape):
        changed = _changed(params, change)
        if changed is None or plan(changed, shape).gib >= plan(params, shape).gib:
            continue
        params = changed
        settings = " ".join(f"--set '{key}={json.dumps(value)}'" for key, value in change.items())
        lines.append(f"  {settings}: {plan(params, shape).gib:.2f} GiB")
        if plan(params, shape).gib <= size:
            return "\n".join(lines)
    return "\n".join([*lines, "Even so it does not fit: take a smaller model or a larger card."])


def _changes(params: Params, shape: Shape) -> list[dict[str, Any]]:
    """Keys and values; where a change does not apply, none."""
    train = params.train
    return [
        {"train.optim": "paged_adamw_8bit"},
        {"train.share_prompts": True},
        {"vllm.sleep": True} if params.vllm else {},
        {"train.gradient_checkpointing": True},
        _one_group_a_batch(train) if train.per_device_train_batch_size > train.num_generations else {},
        {"vllm.kv_cache_gib": params.vllm.kv_cache_gib / 2} if params.vllm else {},
        {"train.beta": 0.0},
        {} if params.lora else {"lora": {"rank": 16, "alpha": 16, "targets": list(shape.projections)}},
        _unsloth(params),
        {"quantization": "4bit"},
        {"engine": "transformers", "train.old_log_probs": "computed", "train.compile": False},
        {"train.max_completion_length": train.max_completion_length // 2},
    ]


def _one_group_a_batch(train: Train) -> dict[str, Any]:
    """The same optimizer steps from smaller batches."""
    split = train.per_device_train_batch_size // train.num_generations
    return {
        "train.per_device_train_batch_size": train.num_generations,
        "train.gradient_accumulation_steps": train.gradient_accumulation_steps * split,
        "train.steps_per_generation": train.steps_per_generation * split,
    }


def _unsloth(params: Params) -> dict[str, Any]:
    """Its loss is its own; vLLM takes its weights, so that they can't be given back."""
    own = {"train.share_prompts": False, "train.compile": False, "train.gradient_checkpointing": True}
    return {"backend": "unsloth"} | own | ({"vllm.sleep": False} if params.vllm else {})


def _changed(params: Params, change: dict[str, Any]) -> Params | None:
    """The configuration with a change; None where the two don't go together."""
    try:
        return Params.model_validate(layers.merge(params.model_dump(), layers.nested(change)))
    except ValidationError:
        return None
