"""The recipes: each extends another file, loads, and has the figures that its source publishes."""

import re
from functools import reduce

import pytest
import yaml
from gsm8k_grpo.config import layers
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.config.recipes import BASES, DEFAULTS, RECIPES, chain, files, more_sets, read_recipe, recipes
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.memory import shapes

FIVE = ["xmlcount", "soft_format", "strict_format", "int", "correctness"]
ALL_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NOTEBOOK = ["rtx4090", "rtx4090-published", "t4-chinese", "vram7gb", "phi4", "llama31-8b"]
PUBLISHED = [*NOTEBOOK, "rtx3080"]
SUPERVISED = "r1-distill-32b"
GSM8K_TRAIN = 7473


def of(recipe: str, root, **overrides) -> Params:
    return load(root / "params.yaml", {"recipe": recipe, "path": "data"} | overrides)


def test_every_published_set_up_is_a_recipe():
    assert {*PUBLISHED, SUPERVISED} <= set(recipes())


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_holds_every_key_that_params_yaml_leaves_to_it(recipe, root):
    """A recipe may add variants to those of params.yaml, such as the start of another one."""
    edited = layers.read(root / "params.yaml")
    left = set(Params.model_fields) - (set(edited) - {"evaluate"})
    assert set(read_recipe(recipe)) - {"variants"} == left


def test_the_defaults_with_params_yaml_are_a_valid_configuration(root):
    merged = layers.merge(read_recipe(DEFAULTS), layers.read(root / "params.yaml"))
    assert Params.model_validate(merged).model == "scratch"


def keys(section: dict, above: str = "") -> dict:
    """The values of a section by dotted key; a section that is replaced as a whole is one value."""
    values = {}
    for key, value in section.items():
        inner = isinstance(value, dict) and not layers.replaced(f"{above}{key}")
        values |= keys(value, f"{above}{key}.") if inner else {f"{above}{key}": value}
    return values


@pytest.mark.parametrize("name", [name for name in files() if name != DEFAULTS])
def test_a_file_holds_only_what_differs_from_the_file_it_extends(name):
    *below, own = chain(name).values()
    assert keys(own).items() & keys(reduce(layers.merge, below)).items() == set()


def test_recipes_extend_each_other_down_to_the_defaults():
    assert list(chain("rtx4090")) == [
        "workflow/recipes/defaults.yaml",
        "workflow/recipes/unsloth-notebook.yaml",
        "workflow/recipes/rtx4090-published.yaml",
        "workflow/recipes/rtx4090.yaml",
    ]


def test_a_file_for_others_to_extend_is_not_a_recipe_to_choose(root):
    assert set(BASES) <= set(files())
    for name in BASES:
        with pytest.raises(PipelineError, match=f'recipe = "{name}": choose from llama31-8b, phi4, '):
            of(name, root)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes files into a copy of the recipes' folder."""
    for file in RECIPES.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("gsm8k_grpo.config.recipes.RECIPES", tmp_path)

    def write(**contents: str) -> None:
        for name, content in contents.items():
            (tmp_path / f"{name}.yaml").write_text(content)

    return write


def test_a_recipe_without_extends_goes_over_the_defaults(own, root):
    own(mine="threads: 3\n")
    assert of("mine", root).threads == 3
    assert read_recipe("mine") == read_recipe(DEFAULTS) | {"threads": 3}


def test_null_goes_over_a_section_and_a_section_over_null(own):
    own(
        mine="extends: vram7gb\nlora: null\n",
        back="extends: mine\nlora: {rank: 4, alpha: 8, targets: [q_proj]}\n",
    )
    assert read_recipe("mine")["lora"] is None
    assert read_recipe("back")["lora"] == {"rank": 4, "alpha": 8, "targets": ["q_proj"]}


def test_weights_and_test_sets_replace_those_below_as_a_whole(own):
    own(mine="extends: vram7gb\nrewards: {weights: {int: 2}}\nevaluate: {sets: {}}\n")
    assert read_recipe("mine")["rewards"] == {"set": "published", "weights": {"int": 2}}
    assert read_recipe("mine")["evaluate"]["sets"] == {}


@pytest.mark.parametrize("extended", ["vram8gb", "null", "[tiny]", "mine", "../recipes/tiny"])
def test_extends_with_an_unknown_name_names_file_key_and_choices(own, extended):
    own(mine=f"extends: {extended}\n")
    with pytest.raises(PipelineError) as stopped:
        read_recipe("mine")
    choices = [name for name in files() if name != "mine"]
    assert str(stopped.value).startswith("workflow/recipes/mine.yaml: extends = ")
    assert str(stopped.value).endswith(f"choose from {', '.join(choices)}")


def test_extends_in_a_circle_names_file_key_and_circle(own):
    own(one="extends: two\n", two="extends: three\n", three="extends: one\n")
    with pytest.raises(PipelineError) as stopped:
        read_recipe("one")
    assert str(stopped.value).startswith(
        'workflow/recipes/three.yaml: extends = "one": one extends two extends three extends one is a circle; choose '
    )


def test_extends_is_a_key_of_recipe_files_only(root):
    with pytest.raises(PipelineError, match="extends: no such key"):
        of("tiny", root, extends="vram7gb")


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_published_optimizer_and_schedule(recipe, root):
    train = of(recipe, root).train
    assert (train.learning_rate, train.lr_scheduler_type, train.warmup_ratio) == (5e-6, "cosine", 0.1)
    assert (train.adam_beta1, train.adam_beta2, train.weight_decay, train.max_grad_norm) == (0.9, 0.99, 0.1, 0.1)


@pytest.mark.parametrize("recipe", NOTEBOOK)
def test_the_notebooks_six_completions_of_200_tokens_for_one_prompt_per_step(recipe, root):
    params = of(recipe, root)
    assert (params.train.num_generations, params.train.max_completion_length) == (6, 200)
    assert params.train.per_device_train_batch_size * params.train.gradient_accumulation_steps == 6
    assert params.train.optim == ("adamw_torch_fused" if recipe == "rtx4090" else "paged_adamw_8bit")
    assert list(params.rewards.weights) == FIVE


@pytest.mark.parametrize(
    ("recipe", "model", "parameters", "trainable"),
    [
        ("rtx4090", "Qwen/Qwen2.5-3B", 3_085_938_688, 59_867_136),  # trainable: as published
        ("rtx4090-published", "Qwen/Qwen2.5-3B", 3_085_938_688, 59_867_136),
        ("t4-chinese", "Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, 80_740_352),
        ("vram7gb", "Qwen/Qwen2.5-1.5B", 1_543_714_304, 36_929_536),
        ("phi4", "unsloth/phi-4", 14_659_507_200, 44_236_800),  # trainable: as the notebook shows
        ("llama31-8b", "meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, 83_886_080),
        (SUPERVISED, "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32_763_876_352, 67_108_864),
    ],
)
def test_the_models_and_the_trainable_parameters_of_their_adapters(recipe, model, parameters, trainable, root):
    params = of(recipe, root)
    shape = shapes.shape_of(params)
    assert params.model == model
    assert shape.parameters == parameters
    assert shape.adapter(params.lora) == trainable


def test_rtx3080_trains_all_weights_and_an_adapter_by_one_override(root):
    params = of("rtx3080", root)
    assert params.model == "meta-llama/Llama-3.2-1B-Instruct"
    assert params.lora is None
    assert shapes.shape_of(params).parameters == 1_235_814_400
    head = (RECIPES / "rtx3080.yaml").read_text(encoding="utf-8")
    override = head.partition("'lora=")[2].partition("'")[0]
    adapter = of("rtx3080", root, lora=yaml.safe_load(override)).lora
    assert adapter.targets == ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj"]  # as published


def test_rtx3080_is_plain_trl_in_bfloat16_with_the_two_rewards(root):
    params = of("rtx3080", root)
    assert (params.backend, params.engine, params.precision) == ("trl", "transformers", "bfloat16")
    assert (params.train.optim, params.train.gradient_checkpointing) == ("adamw_8bit", True)
    assert (params.train.num_generations, params.train.max_completion_length) == (4, 786)
    assert (params.train.per_device_train_batch_size, params.train.gradient_accumulation_steps) == (1, 4)
    assert params.train.prompts_per_generation == 1
    assert (params.rewards.set, list(params.rewards.weights)) == ("published", ["format", "accuracy"])


@pytest.mark.parametrize("recipe", ["rtx4090", "rtx4090-published"])
def test_three_epochs_are_the_published_22419_steps(recipe, root):
    params = of(recipe, root)
    assert params.extract.validation_rows == 0
    generations, left_out = divmod(GSM8K_TRAIN, params.train.prompts_per_generation)
    steps = generations * params.train.optimizer_steps_per_generation * params.variants["full"].epochs
    assert (steps, left_out) == (22_419, 0)
    assert params.variants["short"].max_steps == 250
    assert (params.lora.rank, params.lora.alpha, params.lora.targets) == (32, 32, ALL_SEVEN)


def test_rtx4090_published_is_the_notebooks_stack_step_for_step(root):
    params = of("rtx4090-published", root)
    assert (params.backend, params.engine, params.precision) == ("unsloth", "vllm", "bfloat16")
    assert (params.rewards.set, params.train.beta, params.train.loss_type) == ("published", 0.04, "grpo")
    assert params.train.optimizer_steps_per_generation == params.train.prompts_per_generation == 1
    assert (params.vllm.max_model_length, params.vllm.kv_cache_gib) == (512, 6.89)


def test_t4_chinese_asks_in_chinese_in_4_bit_without_bfloat16(root):
    params = of("t4-chinese", root)
    assert (params.quantization, params.precision, params.vram_gib) == ("4bit", "float16", 14.0)
    assert (params.extract.language, params.rewards.set) == ("chinese", "published")
    assert params.download.hub.dataset == "swulling/gsm8k_chinese"
    assert params.download.hub.question_key == "question_zh-cn"


def test_r1_distill_learns_the_answers_of_a_folder_in_4_bit_by_plain_trl(root):
    params = of(SUPERVISED, root)
    assert (params.method, params.source, params.extract.answers) == ("sft", "local", "free")
    assert (params.backend, params.engine) == ("trl", "transformers")
    assert (params.quantization, params.vram_gib) == ("4bit", 23.65)
    assert (params.sft.optim, params.sft.gradient_checkpointing) == ("paged_adamw_8bit", True)
    assert params.lora.targets == ALL_SEVEN
    with pytest.raises(PipelineError, match=r"path = null: .*train\.jsonl and test\.jsonl .*; set path="):
        of(SUPERVISED, root, path=None)


@pytest.mark.parametrize(
    ("recipe", "gib"),
    [("vram7gb", 7.0), ("phi4", 16.0), ("llama31-8b", 16.0), ("rtx3080", 15.73), ("rtx4090", 23.65)],
)
def test_a_recipe_is_limited_to_the_memory_of_its_gpu(recipe, gib, root):
    assert of(recipe, root).vram_gib == gib


def test_llama31_8b_is_the_notebook_that_the_others_follow(root):
    """It sets a model and a limit of memory, and nothing else; a T4 needs float16."""
    *_, own = chain("llama31-8b").values()
    assert set(own) == {"model", "vram_gib"}
    params = of("llama31-8b", root, precision="float16", vram_gib=14)
    assert (params.backend, params.engine, params.quantization) == ("unsloth", "vllm", "4bit")
    assert (params.lora.rank, params.lora.targets, params.vllm.max_model_length) == (32, ALL_SEVEN, 512)
    assert (params.rewards.set, params.train.beta) == ("published", 0.04)


def test_phi4s_hundred_steps_are_one_override(root):
    head = (RECIPES / "phi4.yaml").read_text(encoding="utf-8")
    override = yaml.safe_load(head.partition("'variants=")[2].partition("'")[0])
    assert of("phi4", root, variants=override).variants["short"].max_steps == 100


@pytest.mark.parametrize("recipe", [recipe for recipe in PUBLISHED if recipe != "t4-chinese"])
def test_gsm8k_is_pinned(recipe, root):
    assert of(recipe, root).download.hub == load(root / "params.yaml").download.hub


# evaluate.more_sets

MORE = [
    "gsm8k_platinum", "svamp", "gsm1k", "gsm_plus", "gsm_symbolic", "gsm_symbolic_p1", "gsm_symbolic_p2", "fresh",
]  # fmt: skip
UNPINNED = {"gsm8k_platinum"}  # of which no public page that was read names a commit


def test_one_key_adds_the_sets_on_offer_to_those_of_the_recipe(root):
    for recipe in ("tiny", "rtx4090", "smollm2"):
        own, more = (of(recipe, root, **{"evaluate.more_sets": switch}).evaluate.sets for switch in (False, True))
        assert list(more) == [*MORE, *(name for name in own if name not in MORE)]
        assert {name: more[name] for name in own} == own


def test_a_set_of_the_same_name_replaces_the_one_on_offer(root):
    mine = {"gsm1k": {"path": "mine.jsonl"}}
    sets = of("tiny", root, **{"evaluate.more_sets": True, "evaluate.sets": mine}).evaluate.sets
    assert list(sets) == MORE
    assert sets["gsm1k"].path == "mine.jsonl"


def test_the_sets_on_offer_are_pinned_to_commits_and_name_their_licence():
    ((file, sets),) = more_sets().items()
    assert file == "workflow/recipes/more-sets.yaml"
    hubs = {name: wanted["hub"] for name, wanted in sets.items() if "hub" in wanted}
    assert {name for name, hub in hubs.items() if not re.fullmatch(r"[0-9a-f]{40}", hub["revision"])} == UNPINNED
    assert all(hub["licence"] for hub in hubs.values())
    assert hubs["gsm_symbolic"]["licence"] == "CC BY-NC-ND 4.0"


def test_the_fresh_problems_are_not_those_that_a_model_made_here_is_trained_on(root):
    settings = of("scratch-gpu", root, **{"evaluate.more_sets": True})
    fresh = settings.evaluate.sets["fresh"].generated
    assert fresh.problems == settings.download.generated.problems == "rich"
    assert fresh.seed not in (None, settings.seed)
