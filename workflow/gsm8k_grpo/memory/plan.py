"""The memory plan: what a training run takes of a GPU's memory, part by part, computed before anything is downloaded.

Each part is computed from the model's shape and the configuration.  Constants that do not follow from what is stored
are set from measured peaks (docs/benchmarks.md).
"""

from dataclasses import dataclass, replace

from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.memory import passes, weights
from gsm8k_grpo.memory.parts import GIB, Part, computed_bytes
from gsm8k_grpo.memory.shapes import Shape
from gsm8k_grpo.models import loading
from gsm8k_grpo.models.gpu import CONTEXT_GIB

# The tokens of GSM8K's longest prompt with system prompt and chat template; published set-ups also cut prompts there.
PROMPT_TOKENS = 256

# vLLM's captured graphs and work space.  With TRL, measured with the recipe rtx4090; where vLLM shares Unsloth's
# weights, measured with rtx4090-published, t4-chinese and phi4.
GRAPHS_GIB = {"trl": 1.9, "unsloth": 1.5}
GRAPHS_LOGITS = 6  # float32 tensors of the size of the logits that the engine `graphs` holds while it chooses tokens


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

    `longest` is the number of tokens of the longest prompt, by default PROMPT_TOKENS.  For the method sft it is the
    number of tokens of the longest prompt with its answer, by default `sft.max_length`.
    """
    shared = {"train": params.train.of_one_gpu(params.gpus), "sft": params.sft.of_one_gpu(params.gpus)}
    params = params.model_copy(update=shared)
    if METHODS[params.method].learns_from_rewards:
        return _with_generation(params, shape, longest or PROMPT_TOKENS)
    return _supervised(params, shape, longest or params.sft.max_length)


def _with_generation(params: Params, shape: Shape, prompt: int) -> Plan:
    generation, update = _generation(params, shape, prompt), passes.of_update(params, shape, prompt)
    if params.engine == "vllm" and params.vllm and params.vllm.sleep:
        # Generation and update never need memory at the same time: only the larger one counts.
        if Plan(generation).gib < Plan(update).gib:
            generation = _not_counted(generation, "released during the update")
        else:
            update = _not_counted(update, "while vLLM sleeps")
    graphs = {"vllm": GRAPHS_GIB[params.backend], "graphs": _work_space(params, shape), "transformers": 0.0}
    parts = [
        *weights.of_model(params, shape, params.reference_weight(params.method)),
        *weights.of_training(params, shape, params.train.optim),
        *generation,
        *update,
        Part("CUDA graphs", graphs[params.engine], "of the engine, with its work space"),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _supervised(params: Params, shape: Shape, length: int) -> Plan:
    """Supervised fine-tuning: no generation and no reference model."""
    parts = [
        *weights.of_model(params, shape, beta=0.0),
        *weights.of_training(params, shape, params.sft.optim),
        *passes.of_supervised(params, shape, length),
        Part("CUDA", CONTEXT_GIB, "context, kernels, libraries"),
    ]
    return Plan(parts)


def _not_counted(parts: list[Part], reason: str) -> list[Part]:
    return [replace(part, remark=f"{part.remark}; {reason}", counted=False) for part in parts]


def _generation(params: Params, shape: Shape, prompt: int) -> list[Part]:
    """The memory of generation: by vLLM with its own weights or Unsloth's, by the engine `graphs`, or by the trained
    model itself.
    """
    size = computed_bytes(params)
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
    """The GiB that the engine `graphs` takes to choose tokens: `GRAPHS_LOGITS` float32 tensors of logits."""
    rows = params.graphs.max_num_seqs if params.graphs else 0
    return GRAPHS_LOGITS * rows * shape.vocabulary * 4 / GIB
