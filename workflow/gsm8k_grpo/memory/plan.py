"""The memory plan: what a training run takes of a GPU, part by part, computed before anything is downloaded.

Each part is a formula of the model's shape and the configuration.  Constants that do not follow from what is stored are
set from measured peaks (docs/benchmarks.md).
"""

from dataclasses import dataclass, replace

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.memory.shapes import Shape
from gsm8k_grpo.models import loading, logprobs
from gsm8k_grpo.models.gpu import CONTEXT_GIB

GIB = 2**30

# A weight in NF4 with doubly quantised scales: half a byte, plus one byte per 64 weights, plus four bytes per 256 of
# those.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments per weight; in 8 bit with a scale of four bytes per 256 of them.  transformers then keeps the
# moments of the embeddings in 32 bit.
ADAMW_8BIT_BYTES = 2 * (1 + 4 / 256)
ADAMW_EMBEDDING_BYTES = 2 * 4
# The longest prompt of GSM8K with system prompt and chat template, and the length at which published set-ups cut.
PROMPT_TOKENS = 256

# Bytes that a layer keeps per token for the backward pass, per unit of the hidden and of the intermediate size, when
# computed in 16 bit; keys and values are added.  tests/unit/memory/test_plan.py counts the tensors that PyTorch saves.
# Hidden: inputs of two norms in 32 bit (8), inputs of the projections (4), queries and attention's output (4); if all
# weights are trained, outputs of the norms (4).  Intermediate: gate, its activation, up, and their product.
KEPT_HIDDEN = 16
KEPT_HIDDEN_TRAINED = 20
KEPT_INTERMEDIATE = 8
# Compiled layers recompute in the backward pass whatever needs no matrix product.
KEPT_HIDDEN_COMPILED = 12
KEPT_INTERMEDIATE_COMPILED = 6
# Gradients of a layer's activations in the backward pass, as a share of what the layer keeps.
PASSING = 0.5
# Bytes per logit at the peak of the backward pass.  With TRL: the logits in 32 bit, and the gradients through their two
# uses.  Chunks need these together with the recomputed forward pass; compiled, most of them are never written.
LOGIT_BYTES = 16
CHUNK_LOGIT_BYTES = 20
COMPILED_LOGIT_BYTES = 8
# After generation by transformers PyTorch holds fragments too small for a tensor of logits: about as much as the logits
# take in 32 bit, as measured with rtx3080, both with all weights trained and with adapters.
UNPLACED_LOGIT_BYTES = 4
# Supervised fine-tuning, for all tokens of a batch: the loss in 32 bit, and its gradient.
SFT_LOGIT_BYTES = 12
# TRL's chunked loss has the logits of this many tokens at a time, and the head's weights in 32 bit and in 16 bit.
SFT_CHUNK = 256
HEAD_BYTES = 6
# A completion token's state, which the value head of PPO reads in 32 bit, and its gradient.
VALUE_STATE_BYTES = 8
UNSLOTH_CHUNKS = 4  # parts into which Unsloth's loss splits a batch
# vLLM's captured graphs and work space: with TRL as measured with rtx4090, and where vLLM shares Unsloth's weights as
# measured with rtx4090-published, t4-chinese and phi4.
GRAPHS_GIB = {"trl": 1.9, "unsloth": 1.5}
# Gradients that GPUs which train together send at once: 256 MiB in 32 bit.
BUCKET = 2**26
# The tokens of a batch with its padding, where the update runs as CUDA graphs (stages.train.grpo.cuda_graphs.buckets).
PADDED = 1.25
GRAPHS_LOGITS = 6  # float32 tensors of the size of the logits that the engine `graphs` holds while it chooses tokens


@dataclass(frozen=True)
class Part:
    """Something that takes memory; `counted` is False for memory that never coexists with a larger part."""

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
        """A line per part that takes memory, in parentheses if it is not counted, and the total."""
        figures = [
            (part, f"{part.gib:.2f}" if part.counted else f"({part.gib:.2f})") for part in self.parts if part.gib
        ]
        lines = [f"{part.name:<18}{figure:>9}  {part.remark}" for part, figure in figures]
        return "\n".join([f"{'part':<18}{'GiB':>9}", *lines, f"{'total':<18}{self.gib:>9.2f}"])


def plan(params: Params, shape: Shape, longest: int | None = None) -> Plan:
    """The memory that training by the recipe's method takes at its peak, on each GPU.

    `longest` is the number of tokens of the longest prompt, for method sft together with its answer.  The default is
    PROMPT_TOKENS, for sft `sft.max_length`.
    """
    shared = {"train": params.train.of_one_gpu(params.gpus), "sft": params.sft.of_one_gpu(params.gpus)}
    params = params.model_copy(update=shared)
    if METHODS[params.method].learns_from_rewards:
        return _with_generation(params, shape, longest or PROMPT_TOKENS)
    return _supervised(params, shape, longest or params.sft.max_length)


def _with_generation(params: Params, shape: Shape, prompt: int) -> Plan:
    generation, update = _generation(params, shape, prompt), _update(params, shape, prompt)
    if params.engine == "vllm" and params.vllm and params.vllm.sleep:
        # The two never coexist: only the larger one counts.
        if Plan(generation).gib < Plan(update).gib:
            generation = _not_counted(generation, "released during the update")
        else:
            update = _not_counted(update, "while vLLM sleeps")
    graphs = {"vllm": GRAPHS_GIB[params.backend], "graphs": _work_space(params, shape), "transformers": 0.0}
    parts = [
        *_model(params, shape, params.reference_weight(params.method)),
        *_training(params, shape, params.train.optim),
        *generation,
        *update,
        Part("CUDA graphs", graphs[params.engine], "of the engine, with its work space"),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _supervised(params: Params, shape: Shape, length: int) -> Plan:
    """Supervised fine-tuning: no generation and no reference model, but the logits of all tokens of a batch."""
    tokens = params.sft.per_device_train_batch_size * length
    if params.sft.loss_type == "chunked_nll":
        head = shape.vocabulary * shape.hidden * HEAD_BYTES
        logits = min(SFT_CHUNK, tokens) * shape.vocabulary * CHUNK_LOGIT_BYTES + head
        remark = f"{min(SFT_CHUNK, tokens):,} tokens by {shape.vocabulary:,}, and the head in 32 bit"
    else:
        logits = tokens * shape.vocabulary * SFT_LOGIT_BYTES
        remark = f"{tokens:,} tokens by {shape.vocabulary:,}"
    parts = [
        *_model(params, shape, beta=0.0),
        *_training(params, shape, params.sft.optim),
        _activations(params, shape, tokens, kept(params, shape), params.sft.gradient_checkpointing),
        Part("logits", logits / GIB, remark),
        _restored(params, shape),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _not_counted(parts: list[Part], reason: str) -> list[Part]:
    return [replace(part, remark=f"{part.remark}; {reason}", counted=False) for part in parts]


def _stored_bytes(params: Params) -> int:
    """Bytes of a weight."""
    return loading.DTYPES[params.precision].itemsize


def _computed_bytes(params: Params) -> int:
    """Bytes of a number in the computation."""
    return loading.DTYPES[loading.COMPUTED[params.precision]].itemsize


def _model(params: Params, shape: Shape, beta: float) -> list[Part]:
    """The weights, and their copies: in the type of the computation, and for the KL term."""
    size = _stored_bytes(params)
    unquantized = shape.parameters * size
    weights: float = unquantized
    dtype: str = "float32" if params.precision == "mixed" else params.precision
    if params.quantization:
        # Embeddings, head and norms stay in the precision of the computation.
        weights = shape.projected * NF4_BYTES + (shape.parameters - shape.projected) * size
        dtype = f"4 bit, {shape.parameters - shape.projected:,} of them in {params.precision}"
    # Autocast keeps a copy of trained weights through the forward and the backward pass.
    has_copy = params.precision == "mixed" and params.lora is None
    # With adapters the reference is the same model with its adapters disabled.
    has_reference = beta > 0 and params.lora is None
    return [
        Part("weights", weights / GIB, f"{shape.parameters:,} in {dtype}"),
        Part("copy in bfloat16", has_copy * shape.parameters * 2 / GIB, "precision: mixed"),
        Part("reference model", has_reference * unquantized / GIB, "for the distance from the start"),
    ]


def _training(params: Params, shape: Shape, optim: str) -> list[Part]:
    """What training keeps per trained weight: adapters are in 32 bit, otherwise weights in the model's precision."""
    trained, size = _trained(params, shape)
    # A new gradient coexists with the accumulated one.  The head's is the largest by far; the embeddings are as large.
    head = 0 if params.lora else shape.vocabulary * shape.hidden
    return [
        Part("adapter", trained * size / GIB if params.lora else 0.0, f"{trained:,} in float32"),
        Part("gradients", (trained + head) * size / GIB, f"of {trained:,} weights{', the head twice' * bool(head)}"),
        _optimizer(optim, trained, head, size),
        Part("averaging", _bucket(params, trained, head) * size / GIB, f"gradients between {params.gpus} GPUs"),
    ]


def _trained(params: Params, shape: Shape) -> tuple[int, int]:
    """The trained weights, and the bytes of each."""
    return (shape.adapter(params.lora), 4) if params.lora else (shape.parameters, _stored_bytes(params))


def _bucket(params: Params, trained: int, largest: int) -> int:
    """Gradients that are copied at once to be averaged; the largest tensor is not divided."""
    return min(trained, max(BUCKET, largest)) if params.gpus > 1 else 0


def _optimizer(optim: str, trained: int, embeddings: int, size: int) -> Part:
    """Two moments per trained weight, in its type; or in 8 bit, except those of the embeddings."""
    if not optim.endswith("8bit"):
        return Part("optimizer", trained * 2 * size / GIB, optim)
    moments = (trained - embeddings) * ADAMW_8BIT_BYTES + embeddings * ADAMW_EMBEDDING_BYTES
    remark = f"{optim}, {embeddings:,} embeddings in 32 bit" if embeddings else optim
    return Part("optimizer", moments / GIB, remark)


def _generation(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """Memory of generation, by vLLM with its own weights or with Unsloth's, or by the trained model itself."""
    size = _computed_bytes(params)
    if params.engine == "vllm" and params.vllm:
        copy = shape.parameters * size if params.backend == "trl" else 0
        return [
            Part("vLLM's weights", copy / GIB, f"a separate copy in {loading.COMPUTED[params.precision]}"),
            Part("KV cache", params.vllm.kv_cache_gib, "vllm.kv_cache_gib"),
        ]
    if params.graphs and params.engine == "graphs":
        copy = shape.parameters * size
        return [
            Part("engine's weights", copy / GIB, f"a separate copy in {loading.COMPUTED[params.precision]}"),
            Part("KV cache", params.graphs.kv_cache_gib, "graphs.kv_cache_gib"),
        ]
    train = params.train
    sequences = train.per_device_train_batch_size * train.steps_per_generation
    length = prompt + train.max_completion_length
    cache = sequences * length * shape.layers * shape.cache_width * size
    return [Part("KV cache", cache / GIB, f"{sequences} sequences of {length} tokens")]


def _work_space(params: Params, shape: Shape) -> float:
    """GiB for choosing a token of each completion by the engine `graphs`: so many float32 tensors of logits."""
    rows = params.graphs.max_num_seqs if params.graphs else 0
    return GRAPHS_LOGITS * rows * shape.vocabulary * 4 / GIB


def _update(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """The forward and the backward pass of one batch."""
    train, tokens = params.train, _batch_tokens(params, prompt)
    if train.cuda_graphs:
        tokens = int(PADDED * tokens)
    layer_bytes = kept(params, shape, train.compile)
    unsloth = params.backend == "unsloth"  # keeps checkpointed inputs in the computer's memory
    logits, logit_bytes = _logits(params)
    activations = _activations(params, shape, tokens, layer_bytes, train.gradient_checkpointing, offloaded=unsloth)
    return [
        activations,
        *_update_graphs(params, shape, tokens, activations.gib),
        Part("logits", logits * shape.vocabulary * logit_bytes / GIB, f"{logits:,} tokens by {shape.vocabulary:,}"),
        *_values(params, shape),
        _restored(params, shape),
    ]


def _update_graphs(params: Params, shape: Shape, tokens: int, activations: float) -> list[Part]:
    """What the CUDA graphs of the update keep.

    These are the activations of the largest batch, beside which the first batch of another size is computed without a
    graph; the states of a batch in 32 bit, with their gradient; and the gradients of all weights in one place, with a
    copy of them if several batches are accumulated.  The graphs themselves are not counted.
    """
    if not params.train.cuda_graphs:
        return []
    trained, size = _trained(params, shape)
    copies = 1 + (params.train.gradient_accumulation_steps > 1)
    gib = activations + (copies * trained * size + 2 * tokens * shape.hidden * 4) / GIB
    return [Part("update's graphs", gib, f"activations again, gradients of {trained:,} weights in a fixed place")]


def _values(params: Params, shape: Shape) -> list[Part]:
    """The value head of PPO, its gradient and moments, and the states that it reads in 32 bit, with their gradient."""
    if not METHODS[params.method].has_values:
        return []
    states = _completions(params) * params.train.max_completion_length
    size = 4 * 4 * (shape.hidden + 1) + VALUE_STATE_BYTES * states * shape.hidden
    return [Part("values", size / GIB, f"the states of {states:,} tokens in 32 bit, and the head that reads them")]


def _activations(
    params: Params, shape: Shape, tokens: int, layer_bytes: float, checkpointing: bool, offloaded: bool = False
) -> Part:
    """What the forward pass keeps for the backward pass, `layer_bytes` per token and layer, and their gradients."""
    layer = tokens * layer_bytes
    if checkpointing:
        # Only each layer's input is kept; the backward pass recomputes one layer at a time.
        inputs = 0 if offloaded else shape.layers * tokens * shape.hidden * _computed_bytes(params)
        size, remark = inputs + layer, f"{tokens:,} tokens, recomputed layer by layer"
    else:
        size, remark = shape.layers * layer, f"{tokens:,} tokens in {shape.layers} layers"
    return Part("activations", (size + PASSING * layer) / GIB, remark)


def _restored(params: Params, shape: Shape) -> Part:
    """A quantised matrix is dequantised for each product; the largest one counts."""
    size = 0 if params.quantization is None else shape.hidden * shape.intermediate * _computed_bytes(params)
    return Part("restored matrix", size / GIB, "dequantised from 4 bit for a product")


def kept(params: Params, shape: Shape, compiled: bool = False) -> float:
    """Bytes that a layer keeps per token for the backward pass."""
    if compiled:
        hidden, intermediate = KEPT_HIDDEN_COMPILED, KEPT_INTERMEDIATE_COMPILED
    else:
        hidden, intermediate = KEPT_HIDDEN if params.lora else KEPT_HIDDEN_TRAINED, KEPT_INTERMEDIATE
    in_16_bit = hidden * shape.hidden + intermediate * shape.intermediate + 2 * shape.cache_width
    return in_16_bit * _computed_bytes(params) / 2


def _completions(params: Params) -> int:
    """Completions of a batch that go through the model: all, or those of the pairs."""
    train = params.train
    pairs = METHODS[params.method].learns_from_pairs
    return 2 * _groups(train) if pairs else train.per_device_train_batch_size


def _groups(train: Train) -> int:
    return train.per_device_train_batch_size // train.num_generations


def _batch_tokens(params: Params, prompt: int) -> int:
    """Tokens of a batch that go through the model."""
    completions = _completions(params)
    prompts = _groups(params.train) if params.train.share_prompts else completions
    return prompts * prompt + completions * params.train.max_completion_length


def _logits(params: Params) -> tuple[int, int]:
    """Tokens whose logits are in memory at the same time, and the bytes per logit."""
    completion_tokens = _completions(params) * params.train.max_completion_length
    if params.train.share_prompts:
        logit_bytes = COMPILED_LOGIT_BYTES if params.train.compile else CHUNK_LOGIT_BYTES
        return min(logprobs.CHUNK, completion_tokens), logit_bytes
    if params.backend == "unsloth":
        return -(-completion_tokens // UNSLOTH_CHUNKS), COMPILED_LOGIT_BYTES
    return completion_tokens, LOGIT_BYTES + (UNPLACED_LOGIT_BYTES if params.engine == "transformers" else 0)
