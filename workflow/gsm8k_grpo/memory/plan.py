"""The memory plan: what a training run takes on a card, part by part, before anything is downloaded.

Each part is a formula over the model's shape and the configuration.  Where a formula can't be derived from what is
stored, its constant stands below, by itself, to be set from measured peaks (docs/benchmarks.md).
"""

from dataclasses import dataclass, replace

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import Train
from gsm8k_grpo.memory.shapes import Shape
from gsm8k_grpo.models import loading, logprobs
from gsm8k_grpo.models.gpu import CONTEXT_GIB

GIB = 2**30

# A weight in NF4 with doubly quantised scales: half a byte, a byte for every 64 weights, four for every 256 of those.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments of every weight; in 8 bit with a scale of four bytes for every 256.  transformers keeps those
# of the embeddings in 32 bit then.
ADAMW_8BIT_BYTES = 2 * (1 + 4 / 256)
ADAMW_EMBEDDING_BYTES = 2 * 4
# A prompt: the longest of GSM8K's, with system prompt and chat template; where the published set-ups cut.
PROMPT_TOKENS = 256

# Bytes that a layer keeps of each token for the backward pass, for every unit of the hidden and of the intermediate
# size, computed in 16 bit; keys and values come to these.  tests/unit/memory/test_plan.py counts PyTorch's saved tensors.
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
# Where transformers has generated, PyTorch holds pieces that no tensor of logits fits in: as much as one in 32 bit, as
# measured with rtx3080, all weights and adapters.
UNPLACED_LOGIT_BYTES = 4
# Supervised, of every token of a batch: the loss is computed in 32 bit, its gradient beside it.
SFT_LOGIT_BYTES = 12
# TRL's chunked loss has this many tokens' logits at a time, and the head's weights in 32 bit beside their copy in 16.
SFT_CHUNK = 256
HEAD_BYTES = 6
UNSLOTH_CHUNKS = 4  # parts into which Unsloth's loss cuts a batch
# vLLM's captured graphs and work space: an engine of its own, as measured with rtx4090, and one that shares Unsloth's
# weights, as measured with rtx4090-published, t4-chinese and phi4.
GRAPHS_GIB = {"trl": 1.9, "unsloth": 1.5}


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


def plan(params: Params, shape: Shape, longest: int | None = None) -> Plan:
    """The memory that training takes at its peak, by the recipe's method.

    `longest` is the length in tokens of the longest prompt, for method sft with its answer; PROMPT_TOKENS or
    sft.max_length where it is not given.
    """
    if METHODS[params.method].learns_from_rewards:
        return _with_generation(params, shape, longest or PROMPT_TOKENS)
    return _supervised(params, shape, longest or params.sft.max_length)


def _with_generation(params: Params, shape: Shape, prompt: int) -> Plan:
    generation, update = _generation(params, shape, prompt), _update(params, shape, prompt)
    if params.vllm and params.vllm.sleep:
        # The two take turns: what the smaller one needs, the larger one has given back.
        if Plan(generation).gib < Plan(update).gib:
            generation = _not_counted(generation, "given back during the update")
        else:
            update = _not_counted(update, "while vLLM sleeps")
    graphs = GRAPHS_GIB[params.backend] if params.engine == "vllm" else 0.0
    parts = [
        *_model(params, shape, params.train.beta),
        *_training(params, shape, params.train.optim),
        *generation,
        *update,
        Part("CUDA graphs", graphs, "vLLM's, with its work space"),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _supervised(params: Params, shape: Shape, length: int) -> Plan:
    """No generation and no reference: a batch of questions with their answers, the logits of all their tokens."""
    tokens = params.sft.per_device_train_batch_size * length
    if params.sft.loss_type == "chunked_nll":
        head = shape.vocabulary * shape.hidden * HEAD_BYTES
        logits = min(SFT_CHUNK, tokens) * shape.vocabulary * CHUNK_LOGIT_BYTES + head
        remark = f"{min(SFT_CHUNK, tokens):,} tokens by {shape.vocabulary:,}, beside the head in 32 bit"
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


def _not_counted(parts: list[Part], why: str) -> list[Part]:
    return [replace(part, remark=f"{part.remark}; {why}", counted=False) for part in parts]


def _stored(params: Params) -> int:
    return loading.DTYPES[params.precision].itemsize  # bytes of a weight


def _computed(params: Params) -> int:
    return loading.DTYPES[loading.COMPUTED[params.precision]].itemsize  # bytes of a number in the computation


def _model(params: Params, shape: Shape, beta: float) -> list[Part]:
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
    reference = beta > 0 and params.lora is None
    return [
        Part("weights", loaded / GIB, f"{shape.parameters:,} in {kind}"),
        Part("copy in bfloat16", copied * shape.parameters * 2 / GIB, "precision: mixed"),
        Part("reference model", reference * whole / GIB, "train.beta is above 0"),
    ]


def _training(params: Params, shape: Shape, optim: str) -> list[Part]:
    """What training keeps of each trained weight: adapters are in 32 bit, full weights in the model's precision."""
    trained = shape.adapter(params.lora) if params.lora else shape.parameters
    size = 4 if params.lora else _stored(params)
    # The head's new gradient stands beside the sum of those before; it is the largest by far.  Embeddings are as large.
    head = 0 if params.lora else shape.vocabulary * shape.hidden
    return [
        Part("adapter", trained * size / GIB if params.lora else 0.0, f"{trained:,} in float32"),
        Part("gradients", (trained + head) * size / GIB, f"of {trained:,} weights{', twice of the head' * bool(head)}"),
        _optimizer(optim, trained, head, size),
    ]


def _optimizer(optim: str, trained: int, embeddings: int, size: int) -> Part:
    """Two moments of each trained weight, in its type; or in 8 bit, but for those of the embeddings."""
    if not optim.endswith("8bit"):
        return Part("optimizer", trained * 2 * size / GIB, optim)
    moments = (trained - embeddings) * ADAMW_8BIT_BYTES + embeddings * ADAMW_EMBEDDING_BYTES
    remark = f"{optim}, {embeddings:,} embeddings in 32 bit" if embeddings else optim
    return Part("optimizer", moments / GIB, remark)


def _generation(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """What generates: vLLM with weights of its own, or shared with Unsloth; or the model itself."""
    size = _computed(params)
    if params.engine == "vllm":
        own = shape.parameters * size if params.backend == "trl" else 0
        return [
            Part("vLLM's weights", own / GIB, f"a copy of its own in {loading.COMPUTED[params.precision]}"),
            Part("KV cache", params.vllm.kv_cache_gib, "vllm.kv_cache_gib"),
        ]
    train = params.train
    sequences = train.per_device_train_batch_size * train.steps_per_generation
    length = prompt + train.max_completion_length
    cached = sequences * length * shape.layers * shape.cache_width * size
    return [Part("KV cache", cached / GIB, f"{sequences} sequences of {length} tokens")]


def _update(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """The forward and the backward pass of one batch."""
    train, tokens = params.train, _tokens(params.train, prompt)
    each = kept(params, shape, train.compile)
    unsloth = params.backend == "unsloth"  # keeps them in the computer's memory
    logits, bytes_each = _logits(params)
    return [
        _activations(params, shape, tokens, each, train.gradient_checkpointing, offloaded=unsloth),
        Part("logits", logits * shape.vocabulary * bytes_each / GIB, f"{logits:,} tokens by {shape.vocabulary:,}"),
        _restored(params, shape),
    ]


def _activations(
    params: Params, shape: Shape, tokens: int, each: float, checkpointing: bool, offloaded: bool = False
) -> Part:
    """What the forward pass keeps for the backward pass, `each` bytes of a token and layer, and gradients passing."""
    layer = tokens * each
    if checkpointing:
        # Kept is each layer's input; one layer at a time is computed anew.
        inputs = 0 if offloaded else shape.layers * tokens * shape.hidden * _computed(params)
        size, remark = inputs + layer, f"{tokens:,} tokens, recomputed layer by layer"
    else:
        size, remark = shape.layers * layer, f"{tokens:,} tokens in {shape.layers} layers"
    return Part("activations", (size + PASSING * layer) / GIB, remark)


def _restored(params: Params, shape: Shape) -> Part:
    """A quantised matrix is restored for its product."""
    size = 0 if params.quantization is None else shape.hidden * shape.intermediate * _computed(params)
    return Part("restored matrix", size / GIB, "4 bit, for its product")


def kept(params: Params, shape: Shape, compiled: bool = False) -> float:
    """Bytes that a layer keeps of each token for the backward pass."""
    if compiled:
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
    return completed, LOGIT_BYTES + (UNPLACED_LOGIT_BYTES if params.engine == "transformers" else 0)
