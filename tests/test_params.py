"""The configuration: its layers, its types, and what it says to the mistakes that people make."""

import re

import pytest
import yaml
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.layers import parse_override
from gsm8k_grpo.params import RECIPES, Variant, load, recipes


@pytest.fixture(scope="session")
def default(root):
    return root / "params.yaml"


@pytest.fixture
def edited(tmp_path, default):
    """Writes a params.yaml: the default with sections changed, or any text or bytes; gives its path."""

    def write(content):
        path = tmp_path / "params.yaml"
        if isinstance(content, dict):
            content = yaml.safe_dump(yaml.safe_load(default.read_text(encoding="utf-8")) | content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def message(path, overrides={}):
    with pytest.raises(PipelineError) as stopped:
        load(path, overrides)
    return str(stopped.value)


# Layers


def test_the_default_configuration_is_valid_and_names_the_default_recipe(default):
    assert load(default).recipe == "tiny"


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_is_valid_under_the_default_params(default, recipe):
    assert load(default, {"recipe": recipe}).recipe == recipe


def test_params_go_over_the_recipe_and_overrides_over_both(edited):
    recipe = yaml.safe_load((RECIPES / "tiny.yaml").read_text(encoding="utf-8"))["train"]
    path = edited({"train": {"temperature": 0.7, "weight_decay": 0.25}})
    train = load(path, {"train.temperature": 0.9}).train
    assert train.temperature == 0.9
    assert train.weight_decay == 0.25
    assert train.max_grad_norm == recipe["max_grad_norm"]


def test_a_section_merges_key_by_key(default):
    changed = load(default, {"download": {"hub": {"revision": "abc"}}}).download.hub
    assert changed == load(default).download.hub.model_copy(update={"revision": "abc"})


def test_dotted_and_nested_overrides_are_the_same(default):
    dotted = {"base.architecture.layers": 3, "base.steps": 9, "train.weight_decay": 0.1}
    nested = {"base": {"architecture": {"layers": 3}, "steps": 9}, "train": {"weight_decay": 0.1}}
    assert load(default, dotted) == load(default, nested) != load(default)


def test_weights_replace_the_recipes_weights_as_a_whole(edited):
    path = edited({"rewards": {"set": "published", "weights": {"format": 1, "accuracy": 1}}})
    assert load(path).rewards.weights == {"format": 1.0, "accuracy": 1.0}


def test_weights_given_one_by_one_stand_together(default):
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


@pytest.mark.parametrize("text", ["train.learning_rate", "", "train={a", "train=a: b: c", "path=[1"])
def test_an_override_that_is_none_is_explained(text):
    with pytest.raises(
        PipelineError, match=f"^{re.escape(repr(text))}: (an override is written key=value|the value is not)"
    ):
        parse_override(text)


def test_steps_and_prompts_of_a_generation_follow_from_the_batch(default):
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 8}
    train = load(default, {"train": shape | {"steps_per_generation": 6, "num_iterations": 2, "save_steps": 12}}).train
    assert train.optimizer_steps_per_generation == 6
    assert train.prompts_per_generation == 3


# Mistakes: overrides, and the line that explains them.  A number of each kind, at every depth.

MISTAKES = [
    # a key that is not there
    ({"sed": 3}, "sed: no such key; did you mean seed? allowed: base, compare, download,"),
    ({"train.learning_rat": 1e-4}, "train.learning_rat: no such key; did you mean train.learning_rate? allowed: "),
    ({"download.hub.datset": "a/b"}, "download.hub.datset: no such key; did you mean download.hub.dataset? allowed: "),
    ({"base.architecture.width": 8}, "base.architecture.width: no such key; allowed: context, heads, hidden,"),
    ({"variants.short.max_stps": 9}, "variants.short.max_stps: no such key; did you mean variants.short.max_steps?"),
    ({"variants.short.rewards": {"set": "robust", "weights": {"int": 1}, "weight": 1}},
     "variants.short.rewards.weight: no such key; did you mean variants.short.rewards.weights? allowed: set, weights"),
    ({"": 3}, ": no such key; allowed: "),
    # a value of the wrong type
    ({"seed": "42"}, 'seed = "42": input should be a valid integer'),
    ({"seed": 4.5}, "seed = 4.5: input should be a valid integer"),
    ({"threads": True}, "threads = true: input should be a valid integer"),
    ({"train.learning_rate": True}, "train.learning_rate = true: input should be a valid number"),
    ({"train.learning_rate": "fast"}, 'train.learning_rate = "fast": input should be a valid number'),
    ({"extract.one_shot": 1}, "extract.one_shot = 1: input should be a valid boolean"),
    ({"extract.one_shot": "yes please"}, 'extract.one_shot = "yes please": input should be a valid boolean'),
    ({"train": [1, 2]}, "train = [1, 2]: input should be a valid dictionary"),
    ({"train": None}, "train = null: input should be a valid dictionary"),
    ({"variants": ["short"]}, 'variants = ["short"]: input should be a valid dictionary'),
    ({"evaluate.probes": "Calculate pi"}, 'evaluate.probes = "Calculate pi": input should be a valid list'),
    ({"evaluate.probes": ["Calculate pi", 3]}, "evaluate.probes.1 = 3: input should be a valid string"),
    ({"model": None}, "model = null: input should be a valid string"),
    ({"train.save_steps": None}, "train.save_steps = null: input should be a valid integer"),
    ({"rewards.weights": {"int": "1"}}, 'rewards.weights.int = "1": input should be a valid number'),
    # a value out of range
    ({"seed": -1}, "seed = -1: input should be greater than or equal to 0"),
    ({"seed": 2**32}, "seed = 4294967296: input should be less than 4294967296"),
    ({"variants.short.max_steps": -5}, "variants.short.max_steps = -5: input should be greater than or equal to 1"),
    ({"variants.full.epochs": 0}, "variants.full.epochs = 0: input should be greater than 0"),
    ({"evaluate.questions": 0}, "evaluate.questions = 0: input should be greater than or equal to 1"),
    ({"train.num_generations": 1}, "train.num_generations = 1: input should be greater than or equal to 2"),
    ({"train.learning_rate": 0}, "train.learning_rate = 0: input should be greater than 0"),
    ({"train.learning_rate": float("inf")}, "train.learning_rate = Infinity: input should be a finite number"),
    ({"rewards.weights": {"int": float("nan")}}, "rewards.weights.int = NaN: input should be a finite number"),
    ({"train.warmup_ratio": 5}, "train.warmup_ratio = 5: input should be less than or equal to 1"),
    ({"base.slips": -0.1}, "base.slips = -0.1: input should be greater than or equal to 0"),
    ({"compare.resamples": 10}, "compare.resamples = 10: input should be greater than or equal to 100"),
    # a value that is none of the words allowed
    ({"source": "web"}, "source = \"web\": input should be 'hub', 'local' or 'generated'"),
    ({"extract.language": "French"}, "extract.language = \"French\": input should be 'english' or 'chinese'"),
    ({"train.loss_type": "ppo"}, "train.loss_type = \"ppo\": input should be 'grpo', 'bnpo', 'dr_grpo' or 'dapo'"),
    ({"rewards.set": "best"}, "rewards.set = \"best\": input should be 'published', 'robust' or 'control'"),
    ({"variants.Long": {"epochs": 9}}, 'variants.Long = "Long": string should match pattern'),
    ({"variants.a/b": {"epochs": 9}}, 'variants.a/b = "a/b": string should match pattern'),
    # values that don't fit each other
    ({"source": "local"}, "path = null: source 'local' needs the folder that holds train.jsonl and test.jsonl"),
    ({"model": "scratch", "base": None}, "base = null: model 'scratch' needs the section base"),
    ({"variants.base": {"epochs": 1}}, "variants: name at least one, such as short: {max_steps: 250}; 'base' is taken"),
    ({"variants.short": {"max_steps": 9, "epochs": 2}}, "variants.short.max_steps = 9, epochs = 2.0: give one of the"),
    ({"variants.short.max_steps": None}, "variants.short.max_steps = null, epochs = null: give one of the two"),
    ({"variants.new": {}}, "variants.new.max_steps = null, epochs = null: give one of the two"),
    ({"rewards.weights": {}}, "rewards.weights = {}: name at least one of xmlcount"),
    ({"rewards.weights": {"inte": 1}}, "rewards.weights.inte: no reward of the set 'robust'; choose from xmlcount"),
    ({"variants.short.rewards": {"set": "control", "weights": {"int": 1}}},
     "variants.short.rewards.weights.int: no reward of the set 'control'; choose from random"),
    ({"base.architecture": {"hidden": 100, "heads": 8}},
     "base.architecture.hidden = 100: must be a multiple of 2 * heads (16)"),
    ({"base.styles": {"terse": 0, "plain": 0, "hurried": 0, "tagged": 0}},
     "base.styles.terse, plain, hurried, tagged = 0: at least one must be above 0"),
    ({"train": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1, "num_generations": 6}},
     "train.per_device_train_batch_size * gradient_accumulation_steps = 3: must be a multiple of num_generations (6)"),
    ({"train": {"gradient_accumulation_steps": 2, "steps_per_generation": 3}},
     "train.steps_per_generation = 3: must be a multiple of gradient_accumulation_steps (2)"),
    ({"train": {"steps_per_generation": 4, "num_iterations": 1, "gradient_accumulation_steps": 1, "save_steps": 10}},
     "train.save_steps = 10: must be a multiple of the steps that one generation serves (4 = "),
    ({"train": {"per_device_train_batch_size": 32, "steps_per_generation": 4, "num_generations": 8, "prompts": 15}},
     "train.prompts = 15: must be at least 16, what one generation takes"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "line"), MISTAKES, ids=[line[:60] for _, line in MISTAKES])
def test_a_mistake_is_answered_with_key_value_and_what_is_allowed(default, overrides, line):
    first, *reasons = message(default, overrides).splitlines()
    assert first == f"the configuration ({default}, recipe tiny) is not valid:"
    assert any(reason.startswith(f"  {line}") for reason in reasons), reasons


def test_all_mistakes_are_told_at_once(default):
    lines = message(default, {"sed": 1, "threads": 0, "train.optim": "sgd"}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["threads", "train.optim", "sed:"]


@pytest.mark.parametrize("recipe", ["tinny", None, 7, ["tiny"], "../recipes/tiny"])
def test_an_unknown_recipe_names_the_known_ones(default, recipe):
    expected = f"{default}: recipe = {recipe!r}: choose from {', '.join(recipes())}"
    assert message(default, {"recipe": recipe}) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "keys and values are expected"),
        ("# recipe: tiny\n", "keys and values are expected"),
        ("- recipe\n- tiny\n", "keys and values are expected"),
        ("recipe: [tiny\n", "not valid YAML: while parsing a flow sequence"),
        ("recipe: tiny\n\tseed: 1\n", "not valid YAML: while scanning for the next token found character '\\t'"),
        ("recipe: tiny\nseed: 1\nrecipe: tiny\n", "not valid YAML: the key 'recipe' stands twice"),
        ("train: {prompts: 9, prompts: 10}\n", "not valid YAML: the key 'prompts' stands twice"),
        ("path: {{folder}}\n", "not valid YAML: while constructing a mapping"),
        ("recipe: !!python/object/apply:os.getcwd []\n", "not valid YAML: could not determine a constructor"),
        ("path: caf\xe9\n".encode("latin-1"), "not UTF-8 (invalid continuation byte at byte 9)"),
        ("seed: 1\n", "recipe = None: choose from "),
    ],
)
def test_a_params_file_that_cannot_be_read_is_explained(edited, content, reason):
    path = edited(content)
    assert message(path).startswith(f"{path}: {reason}")


def test_a_missing_params_file_says_where_to_run(tmp_path):
    path = tmp_path / "params.yaml"
    assert message(path) == f"{path}: no such file; run from the folder that holds params.yaml"


def test_a_params_file_without_its_sections_names_what_is_missing(edited):
    lines = message(edited("recipe: tiny\n")).splitlines()
    assert "  seed: the key is missing" in lines
    assert "  evaluate.probes: the key is missing" in lines


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["extract", "--set", "train.learning_rat=1e-4"], "did you mean train.learning_rate?"),
        (["train", "--variant", "fall"], "error: --variant fall: choose from short, "),
        (["evaluate", "--model", "long"], "error: --model long: choose from base, short, "),
        (["compare", "--set", "compare.resamples"], "error: 'compare.resamples': an override is written key=value"),
    ],
)
def test_by_hand_a_mistake_stops_before_any_work_without_a_traceback(cli, workdir, arguments, reason):
    done = cli(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in workdir.iterdir()] == ["params.yaml"]
