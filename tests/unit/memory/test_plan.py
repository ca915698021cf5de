"""The memory plan: its formulas on a case computed by hand, its monotonicity, the refusal, and the advice."""

import pytest
import torch
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.config.recipes import read_recipe, recipes
from gsm8k_grpo.config.sections import Lora
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.memory import advice, passes, plan, shapes
from gsm8k_grpo.memory.shapes import Projection, Shape
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.train import parallel
from transformers import AutoConfig, AutoModelForCausalLM

GIB = 2**30
FOR_A_GPU = ["rtx4090", "rtx4090-published", "t4-chinese", "rtx3080", "vram7gb", "phi4", "llama31-8b", "r1-distill-32b"]
ALL_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# 2 layers of 64 by 192, 4 heads of 16 of which 2 have keys and values, a vocabulary of 1,000.
SHAPE = Shape(
    parameters=100_000,
    projections={"up_proj": Projection(2 * 64 * 192, 2 * (64 + 192)), "q_proj": Projection(2 * 64 * 64, 2 * 128)},
    hidden=64,
    intermediate=192,
    layers=2,
    cache_width=64,
    vocabulary=1000,
)


@pytest.fixture
def params(root):
    def changed(**overrides) -> Params:
        awake = {"recipe": "rtx4090", "vllm.sleep": False, "train.optim": "paged_adamw_8bit"}
        return load(root / "params.yaml", awake | overrides)

    return changed


def parts(params: Params, prompt: int = 100) -> dict[str, float]:
    """The bytes of each part."""
    return {part.name: part.gib * GIB for part in plan.plan(params, SHAPE, prompt).parts}


def test_what_is_stored_is_counted_to_the_byte(params):
    lora = {"rank": 8, "alpha": 8, "targets": ["up_proj", "q_proj"]}
    found = parts(params(lora=lora, **{"vllm.kv_cache_gib": 0.5}))
    trained = 8 * (512 + 256)
    assert found["weights"] == pytest.approx(200_000)
    assert found["vLLM's weights"] == pytest.approx(200_000)
    assert found["reference model"] == 0
    assert found["adapter"] == found["gradients"] == pytest.approx(4 * trained)
    assert found["optimizer"] == pytest.approx(trained * (2 + 8 / 256))
    assert found["KV cache"] == pytest.approx(0.5 * GIB)


GROUPS = {
    "train.per_device_train_batch_size": 32, "train.num_generations": 8, "train.max_completion_length": 50,
    "lora.targets": ["up_proj"],
}  # fmt: skip


def test_each_of_several_gpus_computes_its_share_of_a_batch_and_keeps_all_weights(params):
    one, two = (parts(params(gpus=gpus, **GROUPS)) for gpus in (1, 2))
    assert two.pop("averaging") == one["gradients"]
    assert one.pop("averaging") == 0
    assert two.pop("activations") == one.pop("activations") / 2
    assert two.pop("logits") == one.pop("logits") * 800 / 1024  # 16 completions of 50 tokens, of at most 1024 at once
    assert two == one


def test_gpus_that_divide_the_weights_gather_those_outside_of_the_layers_and_of_two_layers(root):
    """While transformers generates, they gather all.  Gradients are gathered with a copy in 32 bit."""
    own = {"recipe": "rtx3080", "gpus": 2, "train.optim": "adamw_torch", "train.num_generations": 2}
    whole, divided = (parts(load(root / "params.yaml", own | {"shard_weights": shard})) for shard in (False, True))
    for part in ("weights", "reference model", "gradients", "optimizer"):
        assert divided.pop(part) == whole.pop(part) / 2
    assert whole.pop("averaging") > divided.pop("averaging") == 0
    in_layers = 2 * 64 * 192 + 2 * 64 * 64
    assert divided.pop("gathered weights") == 2 * 100_000
    assert divided.pop("gathered gradients") == (2 + 4) * (100_000 - in_layers / 2)
    assert divided == whole


def test_two_gpus_are_first_advised_to_divide_the_weights(root):
    named = {"recipe": "smollm2", "model": "Qwen/Qwen2.5-7B-Instruct", "precision": "bfloat16", "gpus": 2}
    divided = {
        "adamw_torch_fused": "--set 'shard_weights=true': 68.83 GiB",
        "adamw_8bit": "--set 'shard_weights=true' --set 'train.optim=\"adamw_torch_fused\"': 68.83 GiB",
    }
    for optim, line in divided.items():
        settings = load(root / "params.yaml", named | {"train.optim": optim})
        *_, last = advice.report(settings, shapes.shape_of(settings), 72.0).splitlines()
        assert last == f"  {line}"


def test_a_large_tensor_of_gradients_is_averaged_whole_and_many_small_ones_in_parts():
    values = [torch.zeros(2**24) for _ in range(6)] + [torch.zeros(2**24 * 5), torch.zeros(1)]
    assert [len(bucket) for bucket in parallel._buckets(values)] == [4, 2, 1, 1]


def test_online_dpo_computes_two_completions_of_each_prompt(params):
    of_grpo, of_pairs = (parts(params(method=method, **GROUPS)) for method in ("grpo", "online_dpo"))
    # Four prompts of 100 tokens, each once, with 32 or 8 completions of 50.
    assert of_grpo["activations"] / of_pairs["activations"] == pytest.approx((400 + 32 * 50) / (400 + 8 * 50))


def test_online_dpo_has_a_reference_unless_adapters_are_trained(root, params):
    assert parts(params(method="online_dpo", **GROUPS))["reference model"] == 0
    whole_groups = {"train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 1}
    found = parts(load(root / "params.yaml", {"recipe": "rtx3080", "method": "online_dpo"} | whole_groups))
    assert found["reference model"] == found["weights"]


def test_the_value_head_of_ppo_and_the_states_that_it_reads_are_counted(params):
    of_grpo, of_ppo = (parts(params(method=method, **GROUPS)) for method in ("grpo", "ppo"))
    # Weight, gradient and two moments of 64 inputs and a bias; the state of each token in 32 bit, and its gradient.
    assert of_ppo.pop("values") == pytest.approx(4 * 4 * 65 + 2 * 4 * 64 * 32 * 50)
    assert of_ppo == of_grpo


def test_ppo_with_adapters_takes_at_most_a_tenth_more_than_grpo(params):
    of_3b = shapes.measure(shapes.config("Qwen/Qwen2.5-3B"))
    of_grpo, of_ppo = (plan.plan(params(method=method), of_3b).gib for method in ("grpo", "ppo"))
    assert of_grpo < of_ppo < 1.1 * of_grpo


def test_all_weights_are_trained_in_their_own_precision_with_a_reference_for_the_kl_term(root):
    found = parts(load(root / "params.yaml", {"recipe": "rtx3080", "train.optim": "adamw_torch"}))
    assert found["reference model"] == found["weights"] == pytest.approx(200_000)
    assert found["gradients"] == pytest.approx(200_000 + 2 * 64 * 1000)  # the head's, once more
    assert found["optimizer"] == pytest.approx(2 * 200_000)
    assert found["adapter"] == 0
    # 4 sequences of 100 + 786 tokens, 2 layers, 64 keys and values, 2 bytes
    assert found["KV cache"] == pytest.approx(4 * 886 * 2 * 64 * 2)
    assert found["logits"] == pytest.approx(786 * 1000 * (passes.LOGIT_BYTES + passes.UNPLACED_LOGIT_BYTES))


def test_an_optimizer_in_8_bit_keeps_embeddings_in_32(root):
    found = parts(load(root / "params.yaml", {"recipe": "rtx3080"}))
    embeddings = 64 * 1000
    assert found["optimizer"] == pytest.approx((100_000 - embeddings) * (2 + 8 / 256) + 8 * embeddings)


def test_4_bit_leaves_embeddings_and_norms_and_unsloth_shares_the_weights_with_vllm(root):
    found = parts(load(root / "params.yaml", {"recipe": "vram7gb", "lora.targets": ["up_proj"]}))
    projected = 2 * 64 * 192 + 2 * 64 * 64
    assert found["weights"] == pytest.approx(projected * (0.5 + 1 / 64 + 4 / 16384) + 2 * (100_000 - projected))
    assert found["vLLM's weights"] == 0


def test_a_shared_prompt_is_in_the_batch_once(params):
    def tokens(**overrides) -> str:
        lora = {"lora.targets": ["up_proj"]}
        planned = plan.plan(params(**lora, **overrides), SHAPE, longest=100)
        return next(part.remark for part in planned.parts if part.name == "activations")

    assert tokens().startswith("1,300 tokens")  # 100 + 6 * 200
    padded = {"train.share_prompts": False, "train.old_log_probs": "computed"}
    assert tokens(**padded).startswith("1,800 tokens")  # 6 * (100 + 200)


def test_in_32_bit_activations_are_twice_as_large_and_mixed_keeps_a_copy_of_the_weights(root):
    found = {
        precision: parts(load(root / "params.yaml", {"recipe": "rtx3080", "precision": precision}))
        for precision in ("float32", "mixed", "bfloat16")
    }
    assert found["float32"]["activations"] == pytest.approx(2 * found["bfloat16"]["activations"])
    assert found["mixed"]["activations"] == found["bfloat16"]["activations"]
    assert found["mixed"]["weights"] == found["float32"]["weights"] == 2 * found["bfloat16"]["weights"]
    assert found["mixed"]["copy in bfloat16"] == found["bfloat16"]["weights"]


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 2, "targets": ALL_SEVEN}])
def test_a_layer_keeps_what_pytorch_saves_for_the_backward_pass(lora, root):
    params = load(root / "params.yaml", {"recipe": "rtx3080", "lora": lora})
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
    saved = {}
    for depth in (2, 3):
        config = AutoConfig.for_model("qwen2", num_hidden_layers=depth, vocab_size=64, **sizes)
        saved[depth] = saved_for_backward(config, params, tokens=256)
    assert (saved[3] - saved[2]) / 256 == pytest.approx(passes.kept(params, shapes.measure(config)), rel=0.04)


def saved_for_backward(config, params, tokens) -> int:
    """Bytes of the tensors that PyTorch saves in a forward pass, without the weights."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    if params.lora:
        model = loading.adapt(model, params.lora)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved = {}

    def save(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage  # kept, so that its address is not reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    return sum(storage.nbytes() for storage in saved.values())


SUPERVISED = {"recipe": "r1-distill-32b", "path": "data", "lora": {"rank": 8, "alpha": 8, "targets": ["up_proj"]}}


def test_supervised_fine_tuning_takes_a_batch_of_questions_with_answers_and_generates_nothing(root):
    params = load(root / "params.yaml", SUPERVISED | {"sft.per_device_train_batch_size": 3})
    found = parts(params, 100)
    projected, trained = 2 * 64 * 192 + 2 * 64 * 64, 8 * 512
    assert found["weights"] == pytest.approx(projected * (0.5 + 1 / 64 + 4 / 16384) + 2 * (100_000 - projected))
    assert found["adapter"] == found["gradients"] == pytest.approx(4 * trained)
    assert found["optimizer"] == pytest.approx(trained * (2 + 8 / 256))
    assert found["logits"] == pytest.approx(3 * 100 * 1000 * passes.SFT_LOGIT_BYTES)
    assert found["restored matrix"] == pytest.approx(2 * 64 * 192)
    assert found["reference model"] == 0
    assert not {"KV cache", "vLLM's weights", "CUDA graphs"} & set(found)
    # Checkpointed: the inputs of two layers, and one layer with the gradients of its activations.
    layer = 300 * (16 * 64 + 8 * 192 + 2 * 64)
    assert found["activations"] == pytest.approx(2 * 300 * 64 * 2 + 1.5 * layer)


def test_a_chunked_loss_has_few_logits_and_the_head_in_32_bit(root):
    found = parts(load(root / "params.yaml", SUPERVISED | {"sft.loss_type": "chunked_nll"}), 1000)
    assert found["logits"] == pytest.approx(256 * 1000 * passes.CHUNK_LOGIT_BYTES + 1000 * 64 * passes.HEAD_BYTES)


def test_a_supervised_variant_of_a_grpo_recipe_is_planned_by_its_own_method(root):
    params = load(root / "params.yaml", {"recipe": "vram7gb", "vram_gib": 4.5})
    advice.require_fit(params, "sft")
    with pytest.raises(PipelineError, match="too small for this training"):
        advice.require_fit(params, "grpo")


def test_the_suggested_changes_make_supervised_fine_tuning_fit(root):
    large = {"sft.per_device_train_batch_size": 8, "sft.gradient_checkpointing": False, "sft.optim": "adamw_torch"}
    params = load(root / "params.yaml", SUPERVISED | {"lora.targets": ALL_SEVEN} | large)
    with pytest.raises(PipelineError) as refusal:
        advice.require_fit(params, "sft")
    named = dict(parse_override(word) for word in str(refusal.value).split("'") if "=" in word)
    assert named == {
        "sft.optim": "paged_adamw_8bit",
        "sft.gradient_checkpointing": True,
        "sft.per_device_train_batch_size": 1,
        "sft.gradient_accumulation_steps": 64,
    }
    advice.require_fit(load(root / "params.yaml", SUPERVISED | {"lora.targets": ALL_SEVEN} | large | named), "sft")


def test_a_vllm_that_sleeps_and_the_update_take_turns(params):
    large, small = {"vllm.kv_cache_gib": 2.0}, {"vllm.kv_cache_gib": 1e-6, "train.per_device_train_batch_size": 12}
    lora = {"lora.targets": ["up_proj"]}
    for settings, released in (
        (large, {"activations", "logits", "restored matrix"}),
        (small, {"vLLM's weights", "KV cache"}),
    ):
        awake = plan.plan(params(**lora, **settings), SHAPE)
        asleep = plan.plan(params(**lora, **settings, **{"vllm.sleep": True}), SHAPE)
        assert {part.name for part in asleep.parts if not part.counted} == released
        saved = sum(part.gib for part in awake.parts if part.name in released)
        assert asleep.gib == pytest.approx(awake.gib - saved)


def test_the_engine_graphs_has_a_copy_of_the_weights_a_cache_and_the_logits_of_all_completions(params):
    """Nothing is released during the update, whatever the section `vllm` of the recipe says."""
    graphs = {"engine": "graphs", "graphs": {"max_num_seqs": 512, "kv_cache_gib": 3.0, "compile": True}}
    changed = params(**graphs, **{"vllm.sleep": True, "lora.targets": ["up_proj"]})
    found = {part.name: part for part in plan.plan(changed, SHAPE).parts}
    assert all(part.counted for part in found.values())
    assert found["engine's weights"].gib == pytest.approx(SHAPE.parameters * 2 / 2**30)
    assert found["KV cache"].gib == 3.0
    assert found["CUDA graphs"].gib == pytest.approx(6 * 512 * SHAPE.vocabulary * 4 / 2**30)


@pytest.mark.parametrize("batches", [1, 2])
def test_an_update_by_cuda_graphs_keeps_its_activations_with_padding_and_the_gradients(params, batches):
    settings = {"lora.targets": ["up_proj"], "train.gradient_accumulation_steps": batches, "lora.rank": 8}
    settings |= {"train.steps_per_generation": 2, "train.sample_prompts": 1}
    eager, graphs = (parts(params(**settings, **{"train.cuda_graphs": on})) for on in (False, True))
    # 100 + 6 * 200 tokens, and a quarter more.
    assert graphs["activations"] == pytest.approx(1.25 * eager.pop("activations"))
    kept = graphs.pop("update's graphs") - graphs.pop("activations")
    # Adapters in 32 bit, the states of 1,625 tokens and their gradient.
    assert kept == pytest.approx(batches * 4 * 8 * 512 + 2 * 4 * 64 * 1625)
    assert graphs == eager


def test_graphs_of_the_update_are_given_up_first_where_memory_is_too_small(params):
    settings = {"engine": "graphs", "graphs": {"max_num_seqs": 282, "kv_cache_gib": 1.0, "compile": True}}
    changed = params(vram_gib=20.0, **settings, **{"train.cuda_graphs": True, "train.optim": "adamw_torch_fused"})
    with pytest.raises(PipelineError, match=r"--set 'train\.cuda_graphs=false': ") as refusal:
        advice.require_fit(changed, "grpo")
    named = dict(parse_override(word) for word in str(refusal.value).split("'") if "=" in word)
    assert list(named)[:2] == ["train.optim", "train.cuda_graphs"]


@pytest.mark.parametrize("recipe", [recipe for recipe in recipes() if recipe != "r1-distill-32b"])
def test_more_completions_longer_completions_and_longer_prompts_take_more(recipe, root):
    params = load(root / "params.yaml", {"recipe": recipe})

    def gib(prompt=plan.PROMPT_TOKENS, **train) -> float:
        vllm = params.vllm and params.vllm.model_copy(update={"sleep": False})
        changed = {"train": params.train.model_copy(update=train), "vllm": vllm}
        return plan.plan(params.model_copy(update=changed), QWEN_SHAPE, prompt).gib

    batch, length = params.train.per_device_train_batch_size, params.train.max_completion_length
    assert gib() < gib(per_device_train_batch_size=2 * batch) < gib(per_device_train_batch_size=4 * batch)
    assert gib() < gib(max_completion_length=2 * length)
    assert gib() < gib(prompt=2 * plan.PROMPT_TOKENS)


QWEN_SHAPE = shapes.measure(shapes.config("Qwen/Qwen2.5-1.5B"))


@pytest.mark.parametrize("recipe", FOR_A_GPU)
def test_every_published_recipe_fits_the_gpu_that_it_names(recipe, root):
    params = load(root / "params.yaml", {"recipe": recipe, "path": "data"})
    assert plan.plan(params, shapes.shape_of(params)).gib < params.vram_gib
    advice.require_fit(params, params.method)
    advice.require_fit(params, "sft")  # a control on the same data fits wherever GRPO does


def test_a_gpu_that_is_too_small_is_refused_with_the_plan_and_what_to_change(params):
    with pytest.raises(PipelineError) as refusal:
        advice.require_fit(params(vram_gib=12.0), "grpo")
    lines = str(refusal.value).splitlines()
    assert "too small" in lines[0]
    assert all(fact in lines[1] for fact in ("rtx4090", "Qwen/Qwen2.5-3B", "12 GiB"))
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:] if line}
    assert rows["weights"] == ["5.75", "3,085,938,688", "in", "bfloat16"]
    assert rows["logits"][:3] == ["1.16", "1,024", "tokens"]
    verdict = next(line for line in lines if line.startswith("It does not fit"))
    assert f" {float(rows['total'][0]) - 12:.2f} GiB" in verdict


def test_the_suggested_changes_make_it_fit(params):
    with pytest.raises(PipelineError) as refusal:
        advice.require_fit(params(vram_gib=12.0), "grpo")
    named = dict(parse_override(word) for word in str(refusal.value).split("'") if "=" in word)
    assert list(named)[:2] == ["vllm.sleep", "vllm.kv_cache_gib"]  # what costs least comes first
    assert named["backend"] == "unsloth"
    advice.require_fit(params(vram_gib=12.0, **named), "grpo")


def test_a_model_that_no_change_makes_fit_is_refused_with_that_reason(root):
    with pytest.raises(PipelineError, match=r"still does not fit: .*smaller model.*larger GPU\.$"):
        advice.require_fit(load(root / "params.yaml", {"recipe": "phi4", "vram_gib": 4.0}), "grpo")


def test_without_a_gpu_nothing_is_refused(params, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert advice.gpu_gib(params(vram_gib=None)) is None
    advice.require_fit(params(vram_gib=None), "grpo")


def test_a_target_that_the_model_lacks_is_refused_with_those_it_has():
    with pytest.raises(PipelineError, match=r"^lora\.targets = qkv_proj: .* up_proj, q_proj$"):
        SHAPE.adapter(Lora(rank=1, alpha=1, targets=["qkv_proj"]))


def test_a_model_in_a_folder_has_the_shape_of_its_config(tmp_path):
    shapes.config("Qwen/Qwen2.5-1.5B").save_pretrained(tmp_path)
    assert shapes.measure(shapes.config(str(tmp_path))) == QWEN_SHAPE


def test_a_folder_without_a_config_is_refused_with_the_models_that_are_known(tmp_path):
    with pytest.raises(PipelineError, match=rf"^model = {tmp_path}: its config\.json .* Qwen/Qwen2\.5-1\.5B"):
        shapes.config(str(tmp_path))


def test_a_recipe_without_data_is_planned_too(cli):
    output = cli("plan", "--set", "recipe=r1-distill-32b").stdout
    assert "32,763,876,352 in 4 bit, 1,558,254,592 of them in bfloat16" in output
    assert "1,024 tokens, recomputed layer by layer" in output
    assert "It fits; " in output


def test_the_command_prints_the_table_and_the_verdict(cli):
    shown = cli("plan", "--set", "recipe=vram7gb")
    assert shown.stdout.splitlines()[0] == "recipe vram7gb, model Qwen/Qwen2.5-1.5B, 7 GiB"
    assert "It fits; " in shown.stdout
    assert "It does not fit: " in cli("plan", "--gpu-gib", "3", "--set", "recipe=vram7gb").stdout


def test_every_published_model_is_known_without_a_network():
    models = {read_recipe(recipe)["model"] for recipe in recipes()}
    assert models - {"scratch"} <= set(shapes.PUBLISHED)
