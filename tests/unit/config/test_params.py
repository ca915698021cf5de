"""The configuration: its layers and its types; errors are in test_bad_params.py."""

import inspect
import re

import pytest
import yaml
from gsm8k_grpo.config.consistency import TAKEN_NAMES
from gsm8k_grpo.config.layers import parse, written
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.recipes import read_recipe, recipes
from gsm8k_grpo.config.sections import Variant, vllm_rank
from gsm8k_grpo.files import PipelineError
from project import TRANSFORMERS


@pytest.fixture(scope="session")
def default(root):
    return root / "params.yaml"


@pytest.fixture
def edited(tmp_path, default):
    """Writes a params.yaml: the default with sections changed, or any text; gives its path."""

    def write(content):
        path = tmp_path / "params.yaml"
        if isinstance(content, dict):
            content = yaml.safe_dump(yaml.safe_load(default.read_text(encoding="utf-8")) | content)
        path.write_text(content, encoding="utf-8")
        return path

    return write


# Layers


def test_the_default_configuration_is_valid_and_names_the_default_recipe(default):
    assert load(default).recipe == "tiny"


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_is_valid_under_the_default_params(default, recipe):
    assert load(default, {"recipe": recipe, "path": "data"}).recipe == recipe


def test_params_replace_values_of_the_recipe_and_overrides_replace_both(edited):
    recipe = read_recipe("tiny")["train"]
    path = edited({"train": {"temperature": 0.7, "weight_decay": 0.25}})
    train = load(path, {"train.temperature": 0.9}).train
    assert train.temperature == 0.9
    assert train.weight_decay == 0.25
    assert train.max_grad_norm == recipe["max_grad_norm"]


def test_a_section_merges_key_by_key(default):
    changed = load(default, {"download": {"hub": {"revision": "abc"}}}).download.hub
    assert changed == load(default).download.hub.model_copy(update={"revision": "abc"})


def test_every_argument_of_apply_chat_template_is_taken():
    from transformers import PreTrainedTokenizerBase

    arguments = set(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)
    assert {"messages"} | arguments - {"self", "kwargs"} == TAKEN_NAMES


def test_dotted_and_nested_overrides_are_the_same(default):
    dotted = {"base.architecture.layers": 3, "base.steps": 9, "train.weight_decay": 0.1}
    nested = {"base": {"architecture": {"layers": 3}, "steps": 9}, "train": {"weight_decay": 0.1}}
    assert load(default, dotted) == load(default, nested) != load(default)


def test_weights_replace_the_recipes_weights_as_a_whole(edited):
    path = edited({"rewards": {"set": "published", "weights": {"format": 1, "accuracy": 1}}})
    assert load(path).rewards.weights == {"format": 1.0, "accuracy": 1.0}


def test_weights_set_one_by_one_are_used_together(default):
    weights = load(default, {"rewards.weights.int": 0.5, "rewards.weights.correctness": 2}).rewards.weights
    assert weights == {"int": 0.5, "correctness": 2.0}


def test_a_third_variant_is_added_to_the_two_with_rewards_of_its_own(default):
    control = {"epochs": 1, "rewards": {"set": "control", "weights": {"random": 1.0}}}
    params = load(default, {"variants.control": control})
    assert list(params.variants) == [*load(default).variants, "control"]
    assert params.variant_rewards("control").set == "control"
    assert params.variant_rewards("short") == params.rewards


def test_the_length_of_a_variant_can_change_its_kind(default):
    assert load(default, {"variants.short": {"max_steps": None, "epochs": 0.5}}).variants["short"] == Variant(
        epochs=0.5
    )


@pytest.mark.parametrize("written", ["5e-6", "5E-6", "5.0e-6", "0.000005", ".5e-5", "+5e-6"])
def test_every_way_to_write_a_small_number_is_a_number(edited, default, written):
    path = edited(default.read_text(encoding="utf-8") + f"\ntrain: {{learning_rate: {written}}}\n")
    assert load(path).train.learning_rate == 5e-6
    assert parse_override(f"train.learning_rate={written}") == ("train.learning_rate", 5e-6)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("seed=3", ("seed", 3)), ("path=null", ("path", None)), ("path=", ("path", None)),
        ("path=a=b", ("path", "a=b")), ("path=~", ("path", None)), ("seed=0x10", ("seed", 16)),
        ("extract.one_shot=true", ("extract.one_shot", True)), ("path='7'", ("path", "7")), ("path=1e", ("path", "1e")),
        ("evaluate.probes=[a, b]", ("evaluate.probes", ["a", "b"])), ('train={"a": 9}', ("train", {"a": 9})),
    ],
)  # fmt: skip
def test_an_override_is_read_as_yaml(text, parsed):
    assert parse_override(text) == parsed


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("path=007", "007"), ("path=~", None), ("model=null", "null"), ("model=1e5", "1e5"),
        ("path=a # b: [c", "a # b: [c"), ('path="a # b"', "a # b"), ("tracking.experiment=true", "true"),
        ("tracking.experiment=*3 apples?", "*3 apples?"),
        ('evaluate.probes=["What is 50 % # of 10", "*3 apples?", 042, "no"]',
         ["What is 50 % # of 10", "*3 apples?", "042", "no"]),
        ("evaluate={probes: [1:30], samples: 042}", {"probes": ["1:30"], "samples": 42}),
        ("chat_template_kwargs={thinking: false, date_string: 2024-07-26, budget: 0x10}",
         {"thinking": False, "date_string": "2024-07-26", "budget": 16}),
        ("seed=042", 42), ("seed=0o17", 15), ("seed=+7", 7), ("seed=1:30", "1:30"), ("train.beta=-.inf", float("-inf")),
    ],
)  # fmt: skip
def test_a_text_is_kept_as_it_is_written_and_numbers_are_those_of_yaml_1_2(text, parsed):
    assert parse_override(text)[1] == parsed


@pytest.mark.parametrize("text", ["train.learning_rate", "", "train={a", "train=a: b: c", "seeds=[1"])
def test_text_that_is_not_an_override_is_an_error(text):
    with pytest.raises(
        PipelineError, match=f"^{re.escape(repr(text))}: (an override is written key=value|the value is not)"
    ):
        parse_override(text)


def test_steps_and_prompts_of_a_generation_follow_from_the_batch(default):
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 8}
    train = load(
        default,
        {"train": shape | {"steps_per_generation": 6, "num_iterations": 2, "save_steps": 12, "sample_prompts": 3}},
    ).train
    assert train.optimizer_steps_per_generation == 6
    assert train.prompts_per_generation == 3


def test_a_variant_keeps_the_steps_below_its_length_and_each_is_a_model(default):
    changed = {"keep_checkpoints": [50, 100, 250, 300], "variants.full.epochs": 0.1}
    params = load(default, changed)
    assert params.kept_steps("short") == [50, 100]  # of max_steps 250
    assert params.kept_steps("full") == [50, 100, 250, 300]
    assert params.model_names() == [
        "base", "short", "full", "short@50", "short@100", "full@50", "full@100", "full@250", "full@300",
    ]  # fmt: skip


def test_without_kept_checkpoints_the_models_are_base_and_the_variants(default):
    assert load(default, {"keep_checkpoints": []}).model_names() == ["base", "short", "full"]


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (8, 8), (12, 16), (24, 32), (33, 64), (512, 512)])
def test_vllm_reserves_the_smallest_rank_that_holds_the_adapter(rank, room):
    assert vllm_rank(rank) == room


@pytest.mark.parametrize(
    "text", ["1e5", "1E-5", "0o17", "042", "1:30", "true", "null", "~", "yes", "a # b", "*3", ".5"]
)
def test_a_text_that_is_written_is_read_as_the_same_text(text):
    assert parse(written({"key": text})) == {"key": text}


# Starts


SEEDS = {
    "variants": {"full": {"start": "own@9"}, "own": {"max_steps": 20, "method": "sft"}},
    "keep_checkpoints": [9, 15],
    "seeds": [43],
}


def test_a_file_lists_a_variant_below_its_start(edited):
    path = edited({"variants": {"full": {"epochs": 3, "start": "own"}, "own": {"max_steps": 20, "method": "sft"}}})
    with pytest.raises(PipelineError, match=r"variants.full.start = \"own\": own must stand above full") as stopped:
        load(path)
    assert str(stopped.value).startswith(f"{path}: ")


def test_a_variant_stands_behind_its_start(default):
    assert list(load(default, SEEDS).variants) == ["short", "own", "full"]
    assert load(default, SEEDS).headline_variant == "full"


def test_with_a_further_seed_training_starts_from_the_run_with_that_seed(default):
    params = load(default, SEEDS)
    assert params.of_run("full_s43").variants["full_s43"].start == "own_s43@9"
    assert params.of_run("own_s43").keep_checkpoints == [9]
    assert params.of_run("full_s43").keep_checkpoints == []


def test_unsloth_is_refused_for_a_method_whose_loss_it_lacks(default):
    adapters = {"backend": "unsloth", "lora": {"rank": 8, "alpha": 8, "targets": ["q_proj"]}}
    with pytest.raises(PipelineError, match=r"unsloth: .* variant full is of method rloo; set backend: trl"):
        load(default, TRANSFORMERS | adapters | {"variants.full.method": "rloo"})


def test_online_dpo_has_whole_groups_in_a_batch(default):
    batches = {
        "train.per_device_train_batch_size": 4,
        "train.gradient_accumulation_steps": 2,
        "train.sample_prompts": 1,
    }
    assert load(default, batches).train.num_generations == 8
    with pytest.raises(
        PipelineError, match=r"batch_size = 4: must be a multiple of num_generations \(8\) for .* short"
    ):
        load(default, batches | {"variants.short.method": "online_dpo"})


def test_a_method_may_have_a_learning_rate_of_its_own(default):
    methods = {"variants.short.method": "ppo", "variants.full.method": "online_dpo", "ppo.learning_rate": 1e-3}
    params = load(default, methods)
    assert params.settings_of("short").learning_rate == 1e-3
    assert params.settings_of("full").learning_rate == params.train.learning_rate == 2e-4


def test_the_loss_vespo_takes_vllms_correction_per_token(default):
    vllm = {"max_model_length": 512, "max_num_seqs": 8, "kv_cache_gib": 1.0, "sleep": False}
    vespo = {"engine": "vllm", "vllm": vllm, "train.loss_type": "vespo", "train.old_log_probs": "computed"}
    with pytest.raises(PipelineError, match=r"mode = sequence_mask: .*'vespo' needs one of token_truncate, token_mask"):
        load(default, vespo)
    assert load(default, vespo | {"train.vllm_importance_sampling_mode": "token_mask"}).train.loss_type == "vespo"


def test_a_kl_term_of_unsloth_is_refused_where_a_variant_has_a_start(default):
    adapters = {"backend": "unsloth", "lora": {"rank": 8, "alpha": 8, "targets": ["q_proj"]}, "train.beta": 0.04}
    adapters |= TRANSFORMERS
    assert load(default, adapters).train.beta == 0.04
    with pytest.raises(PipelineError, match=r"train.beta = 0.04: .* start of full .*; set train.beta: 0"):
        load(default, adapters | {"variants.full.start": "short"})


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("backend", "unsloth", r"backend = unsloth: generates with engine 'vllm' or 'transformers'; set one of these"),
        ("quantization", "4bit", r"quantization = 4bit: engine 'graphs' takes weights in 16 or 32 bit; set engine: "),
    ],
)
def test_the_engine_graphs_takes_the_weights_of_trl_as_they_are(default, key, value, line):
    graphs = {"engine": "graphs", "graphs": {"max_num_seqs": 8, "kv_cache_gib": 1, "compile": False}}
    lora = {"lora": {"rank": 8, "alpha": 8, "targets": ["q_proj"]}}
    assert load(default, graphs | lora).engine == "graphs"
    with pytest.raises(PipelineError, match=line):
        load(default, graphs | lora | {key: value})


def test_the_engines_probabilities_as_the_old_ones_need_our_engine(default):
    """Unsloth has a loss of its own, which computes the old ones."""
    vllm = {"max_model_length": 512, "max_num_seqs": 8, "kv_cache_gib": 1, "sleep": False}
    sampled = {"engine": "vllm", "vllm": vllm, "train.old_log_probs": "sampled", "precision": "bfloat16"}
    sampled["lora"] = {"rank": 8, "alpha": 8, "targets": ["q_proj"]}
    with pytest.raises(PipelineError, match=r"train\.old_log_probs = sampled: needs backend 'trl'; set computed"):
        load(default, sampled | {"backend": "unsloth"})
    for share_prompts in (False, True):
        assert load(default, sampled | {"train.share_prompts": share_prompts}).train.old_log_probs == "sampled"
