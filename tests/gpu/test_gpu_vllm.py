"""vLLM and packed batches on a CUDA GPU, with small models; docs/gpu-checks.md has the results."""

import gc
import importlib.util
import shutil
import signal
from pathlib import Path

import pytest
import torch
from chats import chat
from datasets import Dataset
from families import model_of
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl
from gsm8k_grpo.models import loading, transformers_engine, vllm_engine
from gsm8k_grpo.models.engine import Sampling, stop_tokens
from gsm8k_grpo.stages.train.grpo import packing
from gsm8k_grpo.stages.train.grpo.packed import PackedGRPOTrainer
from gsm8k_grpo.stages.train.grpo.rollouts import merged_weights
from packed_update import gradients, tokens_per_forward
from project import ROOT
from safetensors.torch import load_file
from small_run import FEW, STEPS, TRAIN, logged_steps, mlflow_run, run, start, wait_for
from tiny_models import build
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="there is no vLLM"),
]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Attention heads of a size that every kernel supports.
SHAPE = {"base__architecture__hidden": "256", "base__architecture__heads": "4", "base__steps": "200"}
VLLM = SHAPE | {
    "engine": "vllm", "precision": "bfloat16",
    "vllm": "{max_model_length: 512, max_num_seqs: 64, kv_cache_gib: 1, sleep: true}",
    "lora": f"{{rank: 8, alpha: 16, targets: [{', '.join(TARGETS)}]}}", "train__share_prompts": "true",
    "train__old_log_probs": "sampled", "train__learning_rate": "1e-3",
}  # fmt: skip
QUESTION = "A farmer has 12 hens and buys 5 more. How many hens does he have?"


@pytest.fixture(autouse=True)
def one_engine_at_a_time():
    """vLLM allows one engine that sleeps, and an exception that a test expects can hold one until it is collected."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base model that learned to end its answers."""
    return run(tmp_path_factory.mktemp("base"), "download", "extract", "base", **SHAPE)


def settings(**further) -> Params:
    overrides = FEW | {key.replace("__", "."): value for key, value in (VLLM | further).items()}
    return load(ROOT / "params.yaml", dict(parse_override(f"{key}={value}") for key, value in overrides.items()))


def prompt_logprobs(llm, ids: list[int], **options) -> torch.Tensor:
    """vLLM's log-probability of each token after the first."""
    from vllm import SamplingParams

    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0)
    answer = llm.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False, **options)[0]
    logprobs = zip(answer.prompt_logprobs[1:], ids[1:], strict=True)
    return torch.tensor([entry[token].logprob for entry, token in logprobs])


def question_and_answer(tokenizer) -> list[int]:
    """Tokens of a question in the chat template and of the start of an answer."""
    ids = tokenizer.apply_chat_template(chat(QUESTION, "english", False), add_generation_prompt=True)["input_ids"]
    return ids + tokenizer("<reasoning>\n12 + 5 = 17 hens\n</reasoning>", add_special_tokens=False)["input_ids"]


@torch.no_grad()
def logprobs(model, ids: list[int]) -> torch.Tensor:
    """transformers' log-probability of each token after the first."""
    tokens = torch.tensor(ids, device="cuda")
    logits = model(tokens[None]).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, tokens[1:, None])[:, 0].cpu()


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    folder = shutil.copytree(base, tmp_path_factory.mktemp("trained") / "p")
    return run(folder, TRAIN, "evaluate --model short", **VLLM)


def test_a_run_with_vllm_learns_adapters_and_is_evaluated_by_it(trained):
    metrics = read_json(trained / "results/train/short/metrics.json")
    effective = metrics["effective_config"]
    assert (effective["use_vllm"], effective["trainer"], effective["dtype"]) == (True, "PackedGRPOTrainer", "bfloat16")
    weights = load_file(trained / "results/train/short/model/adapter_model.safetensors")
    assert len(weights) == 2 * 2 * len(TARGETS)
    assert all(tensor.any() for tensor in weights.values())  # the matrices B start as zeros, so each has had a gradient
    assert len(read_jsonl(trained / "results/evaluate/short/answers.jsonl")) == 10


def test_vllm_samples_with_the_trainers_weights_for_every_target(trained):
    """For each target by itself: its adapter moves vLLM's log-probabilities to where the trainer's are."""
    params = settings()
    network, tokenizer = loading.load(loading.Source(str(trained / "results/base/model")), params, packing.ATTENTION)
    adapted = loading.adapt(network, params.lora).to("cuda")
    llm = vllm_engine.start_vllm(str(trained / "results/base/model"), params, load_format="dummy")
    ids = question_and_answer(tokenizer)

    def of_vllm() -> torch.Tensor:
        vllm_engine.load_weights(llm, merged_weights(adapted))
        return prompt_logprobs(llm, ids)

    def of_trainer() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return logprobs(adapted, ids)

    without = of_vllm()
    assert (without - of_trainer()).abs().mean() < 0.02
    torch.manual_seed(0)
    for target in TARGETS:
        parts = [part for name, part in adapted.named_parameters() if f".{target}.lora_B" in name]
        assert len(parts) == 2
        with torch.no_grad():
            for part in parts:
                part.normal_(std=0.3)
        moved = (of_vllm() - without).abs().mean()
        apart = (of_vllm() - of_trainer()).abs().mean()
        print(f"{target}: moved {moved:.3f}, apart {apart:.4f}")
        assert moved > 0.1, target
        assert apart < moved / 5, target
        with torch.no_grad():
            for part in parts:
                part.zero_()


def kernel_from_dense(model, packed: packing.Packed) -> list[float]:
    """How far the GPU's kernel is from a dense mask, relative to it: log-probabilities, then a gradient."""
    computed = []
    for attention in (packing.ATTENTION, "sdpa"):
        model.set_attn_implementation(attention)
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            states = model.model(**packed.inputs(model.config)).last_hidden_state[0, packed.sources]
            logits = model.lm_head(states).float()
        logps = logits.log_softmax(-1).gather(-1, packed.targets[:, None])
        (logps * torch.linspace(-1, 1, len(logps), device="cuda")[:, None]).sum().backward()
        computed.append((logps.detach(), model.model.layers[0].self_attn.k_proj.weight.grad.clone()))
    return [((ours - dense).norm() / dense.norm()).item() for ours, dense in zip(*computed, strict=True)]


def test_a_packed_batch_gives_the_log_probabilities_of_a_padded_one(trained):
    """The GPU's kernel against a dense mask, forward and backward, for prompts and completions of any length."""
    params = settings(precision="mixed")
    model, _ = loading.load(loading.Source(str(trained / "results/base/model")), params, packing.ATTENTION)
    torch.manual_seed(0)
    ids = torch.randint(5, 300, (12, 90), device="cuda")
    mask = torch.ones_like(ids)
    for row in range(12):
        ids[row, :40], mask[row, : 7 * (row // 4)] = ids[row // 4 * 4, :40], 0
        mask[row, 90 - 4 * row :] = 0
    packed = packing.pack(ids, mask, 50, 4)
    assert all(apart < 0.01 for apart in kernel_from_dense(model, packed))


@pytest.mark.parametrize("window", [None, 32], ids=["no window", "window"])
def test_a_sliding_window_is_kept_by_the_kernel(window):
    """Packed batches with the GPU's kernel against a dense mask, forward and backward, beyond the window."""
    shape = {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "head_dim": 64, "sliding_window": window}
    model = build("mistral", packing.ATTENTION, **shape | heads).to("cuda")
    torch.manual_seed(0)
    ids = torch.randint(1, 250, (12, 120), device="cuda")
    mask = torch.ones_like(ids)
    for row in range(12):
        ids[row, :60], mask[row, : 7 * (row // 4)] = ids[row // 4 * 4, :60], 0
        mask[row, 120 - 4 * row :] = 0
    packed = packing.pack(ids, mask, 60, 4)
    for apart in kernel_from_dense(model, packed):
        print(f"window {window}: {apart:.4f} apart")
        assert apart < 0.2  # rounding to 16 bit; a window that is not kept makes it 0.4 or more


def test_a_compiled_update_without_a_group_of_equal_rewards_has_the_gradient_of_one_with_it(trained, tmp_path):
    params = settings()
    model, tokenizer = loading.load(loading.Source(str(trained / "results/base/model")), params, packing.ATTENTION)
    adapted = loading.adapt(model, params.lora)
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    args = GRPOConfig(
        output_dir=str(tmp_path), bf16=True, max_steps=1, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=50, loss_type="dapo", report_to="none", gradient_checkpointing=False,
    )  # fmt: skip
    rows = read_jsonl(trained / "results/extract/train.jsonl")[:4]
    trainer = PackedGRPOTrainer(
        model=adapted, processing_class=tokenizer, reward_funcs=lambda completions, **unused: [0.0, 1.0], args=args,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]), compiled=True, sampled=False,
    )  # fmt: skip
    prompts = torch.randint(5, 300, (2, 40), device="cuda").repeat_interleave(4, 0)
    completions = torch.randint(5, 300, (8, 50), device="cuda")
    ended = torch.ones_like(completions)
    for row in range(8):
        ended[row, 50 - 5 * row :] = 0
    ids, mask = torch.cat([prompts, completions], 1), torch.cat([torch.ones_like(prompts), ended], 1)
    with torch.no_grad():
        old = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 50)[0]
    inputs = {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts), "completion_ids": completions,
        "completion_mask": ended, "num_items_in_batch": ended.sum(), "old_per_token_logps": old,
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0], device="cuda"),
    }  # fmt: skip
    # With so small an advantage the second group is computed, but does not change the gradient in 16 bit.
    whole = inputs | {"advantages": torch.tensor([1.0, -1.0, 0.5, -0.5, 1e-6, 1e-6, 1e-6, 1e-6], device="cuda")}
    assert tokens_per_forward(trainer, inputs) == [40 + 50 + 45 + 40 + 35]
    assert tokens_per_forward(trainer, whole) == [2 * 40 + 50 + 45 + 40 + 35 + 30 + 25 + 20 + 15]
    expected, without = (
        {name: gradient.clone() for name, gradient in gradients(trainer, one).items()} for one in (whole, inputs)
    )
    apart = {name: ((without[name] - one).norm() / one.norm()).item() for name, one in expected.items()}
    print(f"gradients are apart by {max(apart.values()):.4f} at most")
    assert max(apart.values()) < 0.02, apart


def test_vllm_and_transformers_answer_alike(trained):
    """Greedy answers in 32 bit are the same, except where two tokens are equally likely."""
    folder = str(trained / "results/base/model")
    prompts = [row["prompt"] for row in read_jsonl(trained / "results/extract/train.jsonl")[:40]]
    whole = settings(precision="float32", lora="null")
    vllm = vllm_engine.VllmEngine(loading.Source(folder), whole).complete(prompts, 24, "vllm")
    ours = transformers_engine.TransformersEngine(loading.Source(folder), whole).complete(prompts, 24, "tf")
    same = sum(one == other for one, other in zip(vllm, ours, strict=True))
    print(f"{same} of 40 answers are the same")
    assert same >= 38


def test_vllm_samples_by_the_seed_and_ends_before_a_text(trained):
    prompts = [row["prompt"] for row in read_jsonl(trained / "results/extract/train.jsonl")[:40]]
    engine = vllm_engine.VllmEngine(
        loading.Source(str(trained / "results/base/model")), settings(precision="float32", lora="null")
    )
    first, again, other = (engine.sample(prompts, 24, "samples", Sampling(4, 1.0, seed)) for seed in (1, 1, 2))
    same = sum(one == two for one, two in zip(first, again, strict=True))
    print(f"{same} of 40 questions have the same four samples")
    assert same >= 36
    assert first != other
    assert {len(several) for several in first} == {4}
    assert sum(len({one.text for one in several}) > 1 for several in first) > 20
    greedy = engine.complete(prompts, 24, "greedy")
    stop = next(answer.text[2:4] for answer in greedy if len(answer.text) > 4)
    for whole, stopped in zip(greedy, engine.complete(prompts, 24, "stopped", stop), strict=True):
        if stop in whole.text:
            assert (stop in stopped.text, stopped.truncated) == (False, False)
            assert stopped.tokens < whole.tokens or whole.text.endswith(stop)


def test_an_engine_changes_to_other_weights(trained):
    """The weights of a run without adapters replace those of the base model in vLLM, later or when it starts."""
    folder = run(shutil.copytree(trained, trained.parent / "whole"), TRAIN, **(VLLM | {"lora": "null"}))
    base, final = (str(folder / path) for path in ("results/base/model", "results/train/short/model"))
    prompts = [row["prompt"] for row in read_jsonl(trained / "results/extract/train.jsonl")[:20]]
    engine = vllm_engine.VllmEngine(loading.source(base, None), settings(lora="null"))
    before = engine.complete(prompts, 24, "base")
    engine.use(loading.source(base, Path(final)))
    after = engine.complete(prompts, 24, "short")
    assert after != before
    assert after == vllm_engine.VllmEngine(loading.source(base, Path(final)), settings(lora="null")).complete(
        prompts, 24, "short, by the name of base"
    )
    assert after == vllm_engine.VllmEngine(loading.Source(final), settings(lora="null")).complete(
        prompts, 24, "short, by its own"
    )


def test_an_engine_that_lacks_a_weight_is_refused_with_its_name(base):
    llm = vllm_engine.start_vllm(str(base / "results/base/model"), settings(), load_format="dummy")
    network, _ = loading.load(loading.Source(str(base / "results/base/model")), settings(), packing.ATTENTION)
    weights = [item for item in merged_weights(network) if item[0] != "model.layers.1.mlp.down_proj.weight"]
    with pytest.raises(PipelineError, match=r"^engine = vllm: .* 1 of .* model\.layers\.1\.mlp\.down_proj\.weight;"):
        vllm_engine.load_weights(llm, weights)


def test_a_mixture_of_experts_gets_every_weight(base, tmp_path):
    """Its experts have other names in vLLM than in transformers."""
    tokenizer = AutoTokenizer.from_pretrained(base / "results/base/model")
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, moe_intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_experts=4,
        num_experts_per_tok=2, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.25)
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = vllm_engine.start_vllm(str(tmp_path), settings(lora="null"), load_format="dummy")
    ids = question_and_answer(tokenizer)
    with torch.autocast("cuda", torch.bfloat16):
        expected = logprobs(network.to("cuda"), ids)
    assert (prompt_logprobs(llm, ids) - expected).abs().mean() > 1  # of dummy weights
    vllm_engine.load_weights(llm, merged_weights(network))
    assert (prompt_logprobs(llm, ids) - expected).abs().mean() < 0.2


def test_merged_weights_answer_as_base_and_adapter_do(trained):
    source = loading.source(str(trained / "results/base/model"), trained / "results/train/short/model")
    prompts = [row["prompt"] for row in read_jsonl(trained / "results/extract/train.jsonl")] * 4
    engine = transformers_engine.TransformersEngine(
        source, settings(engine="transformers", precision="float32", train__old_log_probs="computed")
    )
    with_adapter = engine.complete(prompts[:100], 24, "adapter")
    engine.model = engine.model.merge_and_unload()
    merged = engine.complete(prompts[:100], 24, "merged")
    same = sum(one == other for one, other in zip(with_adapter, merged, strict=True))
    print(f"{same} of 100 answers are the same")
    assert same >= 98


def test_the_exported_adapter_means_the_same_in_peft_and_in_vllm(trained):
    params = settings()
    folder = str(trained / "results/base/model")
    base, adapted = (loading.source(folder, path) for path in (None, trained / "results/train/short/model"))
    ids = question_and_answer(loading.load_tokenizer(folder))
    in_peft = [logprobs(loading.load(source, params)[0], ids) for source in (base, adapted)]
    engine = vllm_engine.VllmEngine(adapted, params)
    by_vllm = prompt_logprobs(engine.llm, ids, lora_request=engine.adapter)
    moved, apart = ((one - in_peft[1]).abs().mean() for one in (in_peft[0], by_vllm))
    print(f"the adapter moved {moved:.4f}, vLLM is apart {apart:.4f}")
    assert apart < moved / 3


def test_a_base_model_whose_tokenizer_names_another_end_token_stops(trained, tmp_path):
    """As with Qwen2.5, whose tokenizer ends with <|endoftext|> and whose chat template ends a turn with <|im_end|>."""
    folder = shutil.copytree(trained / "results/base/model", tmp_path / "model")
    written = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(
        written.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"')
    )
    assert loading.load_tokenizer(str(folder)).eos_token == "<|im_end|>"
    prompts = [row["prompt"] for row in read_jsonl(trained / "results/extract/train.jsonl")]
    answers = vllm_engine.VllmEngine(loading.Source(str(folder)), settings(lora="null")).complete(prompts, 300, "ends")
    assert not any("<|im" in answer.text for answer in answers)
    assert sum(not answer.truncated for answer in answers) > len(prompts) / 2


def test_vllm_gets_the_prompts_of_transformers_and_stops_at_every_end_token(tmp_path, monkeypatch):
    """A model whose tokenizer puts a token before a text; only the engine knows of the end tokens from 10 on."""
    folder = model_of("llama3", tmp_path / "model")
    engine = vllm_engine.VllmEngine(loading.Source(str(folder)), settings(lora="null"))
    results: list = []
    generate = engine.llm.generate

    def recorded(*arguments, **options):
        results[:] = generate(*arguments, **options)
        return results

    monkeypatch.setattr(engine.llm, "generate", recorded)
    original = AutoTokenizer.from_pretrained(folder)
    as_chat = original.apply_chat_template(
        chat(QUESTION, "english", False), add_generation_prompt=True, date_string="26 Jul 2024"
    )
    engine.complete([chat(QUESTION, "english", False), QUESTION], 4, "prompts")
    prompts = [list(result.prompt_token_ids) for result in results]
    assert prompts == [as_chat["input_ids"], original(QUESTION)["input_ids"]]
    assert [(ids[0], ids.count(original.bos_token_id)) for ids in prompts] == [(original.bos_token_id, 1)] * 2

    ends = [*stop_tokens(engine.tokenizer), *range(10, 60)]
    monkeypatch.setattr(engine.tokenizer, "stop_tokens", ends)
    (samples,) = engine.sample([QUESTION], 24, "ends", Sampling(200, 1.0, 1))
    rows = [list(output.token_ids) for output in results[0].outputs]
    print(f"{len({row[-1] for row in rows}.intersection(ends))} of {len(ends)} end tokens ended a sample")
    assert not any(set(ends).intersection(row[:-1]) for row in rows)
    assert len({row[-1] for row in rows}.intersection(ends)) > 5
    assert [sample.truncated for sample in samples] == [row[-1] not in ends for row in rows]
    assert all(len(row) == 24 for row in rows if row[-1] not in ends)


def test_a_stopped_run_with_vllm_resumes(base, trained, tmp_path):
    folder = shutil.copytree(base, tmp_path / "p")
    process = start(folder, TRAIN, **VLLM)
    wait_for(lambda: any(folder.glob("checkpoints/short-*/kept/9")), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    stopped = mlflow_run(folder)
    run(folder, TRAIN, **VLLM)
    assert logged_steps(folder) == STEPS
    assert (mlflow_run(folder).info.run_id, mlflow_run(folder).info.status) == (stopped.info.run_id, "FINISHED")
