"""Mistakes that people make in the configuration: an error before any work names key, value and what is allowed."""
# ruff: noqa: E501 - each row is an override and the whole line of its error

import re
from datetime import date

import pytest
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.recipes import read_recipe, recipes
from gsm8k_grpo.files import PipelineError
from project import TRANSFORMERS

TRACKED = "must begin with one of http://, https://, sqlite://, postgresql://, mysql://, mssql://"
PASSWORD = (
    "tracking.uri: holds a user name or a password, which would reach the logs; leave them out of the address and set "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
)
GENERATION = "generation (per_device_train_batch_size * steps_per_generation / num_generations)"
ROBUST = "xmlcount, soft_format, strict_format, int, correctness, format, accuracy"
NAME = "a name must consist of a-z, 0-9 and _ and begin with a letter"
TINY = read_recipe("tiny")
GRAPHS = {"max_num_seqs": 282, "kv_cache_gib": 4.0, "compile": True}


def keys(section: str) -> str:
    return ", ".join(sorted(TINY[section]))


# What --set has, and the line of the error.
MISTAKES = [
    # a key that is not there
    ("train.learning_rat=1e-4", f"train.learning_rat: no such key; did you mean train.learning_rate? allowed: {keys('train')}"),
    ("learning_rate=1e-4", "learning_rate: no such key; allowed: backend, base, chat_template_kwargs, compare, download, engine, evaluate, extract, gpus, graphs, keep_checkpoints, lora, method, model, online_dpo, path, ppo, precision, quantization, recipe, rewards, seed, seeds, sft, shard_weights, source, threads, tracking, train, variants, vllm, vram_gib"),
    ("seeds=43", "seeds = 43: must be a list, each a whole number, at least 0, below 4294967296"),
    ("seeds=[42]", "seeds = [42]: must hold each seed once, and not 42, the first (seed)"),
    ("seeds=[7, 7]", "seeds = [7, 7]: must hold each seed once, and not 42, the first (seed)"),
    ("compare.resample=500", "compare.resample: no such key; did you mean compare.resamples? allowed: resamples"),
    ("download.hub.datset=a/b", "download.hub.datset: no such key; did you mean download.hub.dataset? allowed: answer_key, configuration, dataset, licence, question_key, revision"),
    ("base.architecture.width=8", "base.architecture.width: no such key; allowed: context, heads, hidden, intermediate, layers, vocabulary"),
    ("variants.short.max_stps=9", "variants.short.max_stps: no such key; did you mean variants.short.max_steps? allowed: epochs, gpus, max_steps, method, rewards, start"),
    ("variants.short.rewards={set: robust, weights: {int: 1}, weight: 1}", "variants.short.rewards.weight: no such key; did you mean variants.short.rewards.weights? allowed: set, weights"),
    ("compare={1: 500}", "compare.1: no such key; allowed: resamples"),
    ("compare..resamples=500", "compare.: no such key; allowed: resamples"),
    # variables of the chat template
    ("chat_template_kwargs={tokenize: false}", "chat_template_kwargs.tokenize = false: is set by the pipeline; name a variable of the model's chat template"),
    ("chat_template_kwargs={thinking: [1]}", "chat_template_kwargs.thinking = [1]: must be a text, a number, true or false; write a date in quotes"),
    ("chat_template_kwargs={enable-thinking: false}", f"chat_template_kwargs.enable-thinking: {NAME}"),
    ("chat_template_kwargs=false", "chat_template_kwargs = false: must be a section"),
    # a value of the wrong type
    ("seed='42'", 'seed = "42": must be a whole number, at least 0, below 4294967296; write it without quotes'),
    ("seed=4.5", "seed = 4.5: must be a whole number, at least 0, below 4294967296"),
    ("threads=two", 'threads = "two": must be a whole number, at least 1'),
    ("threads=true", "threads = true: must be a whole number, at least 1"),
    ("train.prompts=1e3", "train.prompts = 1000.0: must be a whole number, at least 1, or null"),
    ("train.prompts=1,000", 'train.prompts = "1,000": must be a whole number, at least 1, or null'),
    ("train.prompts={x: 3}", 'train.prompts = {"x": 3}: must be a whole number, at least 1, or null'),
    ("train.save_steps=", "train.save_steps = null: must be a whole number, at least 1"),
    ("train.learning_rate='1e-4'", 'train.learning_rate = "1e-4": must be a number, above 0; write it without quotes'),
    ("train.learning_rate=fast", 'train.learning_rate = "fast": must be a number, above 0'),
    ("train.learning_rate=true", "train.learning_rate = true: must be a number, above 0"),
    ("extract.one_shot=1", "extract.one_shot = 1: must be true or false"),
    ("extract.one_shot=yes please", 'extract.one_shot = "yes please": must be true or false'),
    ("compare=[1, 2]", "compare = [1, 2]: must be a section with the keys resamples"),
    ("compare=", "compare = null: must be a section with the keys resamples"),
    ("base=5", f"base = 5: must be a section with the keys {keys('base')}, or null"),
    ("variants=[short]", 'variants = ["short"]: must be a section'),
    ("variants.short=250", "variants.short = 250: must be a section with the keys epochs, gpus, max_steps, method, rewards, start"),
    ("rewards.weights=[int]", 'rewards.weights = ["int"]: must be a section, each a number'),
    ("rewards.weights={int: '1'}", 'rewards.weights.int = "1": must be a number; write it without quotes'),
    ("evaluate.probes=Calculate pi", 'evaluate.probes = "Calculate pi": must be a list, each a text, not empty'),
    ("evaluate.prompts=[5-shot]", 'evaluate.prompts.0 = "5-shot": must be one of plain, 4-shot, 8-shot'),
    ("evaluate.prompts=[plain, plain]", 'evaluate.prompts = ["plain", "plain"]: must hold no prompt twice'),
    ("evaluate.samples=-1", "evaluate.samples = -1: must be a whole number, at least 0"),
    ("evaluate.temperature=0", "evaluate.temperature = 0: must be a number, above 0"),
    ("evaluate.sets={test: {path: a.jsonl}}", "evaluate.sets.test: is the test split itself; choose another name for the further set"),
    ("evaluate.sets={My-set: {path: a.jsonl}}", f"evaluate.sets.My-set: {NAME}"),
    ("evaluate.sets={own: {}}", "evaluate.sets.own.hub, path, generated: 0 of them are set; set exactly one"),
    ("evaluate.sets={own: {path: a.jsonl, generated: {problems: rich, rows: 5}}}", "evaluate.sets.own.hub, path, generated: 2 of them are set; set exactly one"),
    ("evaluate.sets={own: {file: a.jsonl}}", "evaluate.sets.own.file: no such key; allowed: answer_key, comparison, generated, hub, only_numbers, path, question_key, unanswerable"),
    ("evaluate.sets={own: {path: a.jsonl, only_numbers: true, comparison: math_verify}}", "evaluate.sets.own.only_numbers = true: comparison: math_verify also takes other answers; set one of the two"),
    ("evaluate.sets={own: {path: a.jsonl, unanswerable: None, comparison: math_verify}}", "evaluate.sets.own.unanswerable = None: comparison: math_verify reads formulas only; set one of the two"),
    ("evaluate.more_sets=all", 'evaluate.more_sets = "all": must be true or false'),
    ("evaluate.sets={own: {generated: {problems: hard, rows: 5}}}", 'evaluate.sets.own.generated.problems = "hard": must be one of simple, rich, longer'),
    ("keep_checkpoints=50", "keep_checkpoints = 50: must be a list, each a whole number, at least 1"),
    ("keep_checkpoints=[0]", "keep_checkpoints.0 = 0: must be a whole number, at least 1"),
    ("model=", "model = null: must be a text, not empty"),
    ("tracking.experiment=''", 'tracking.experiment = "": must be a text, not empty'),
    ("seed=1:30", 'seed = "1:30": must be a whole number, at least 0, below 4294967296'),
    ("seed=1_000", 'seed = "1_000": must be a whole number, at least 0, below 4294967296'),
    ("seeds=[0b11]", 'seeds.0 = "0b11": must be a whole number, at least 0, below 4294967296'),
    # a value out of range
    ("seed=-1", "seed = -1: must be a whole number, at least 0, below 4294967296"),
    ("seed=4294967296", "seed = 4294967296: must be a whole number, at least 0, below 4294967296"),
    ("variants.short.max_steps=-5", "variants.short.max_steps = -5: must be a whole number, at least 1, or null"),
    ("variants.full.epochs=0", "variants.full.epochs = 0: must be a number, above 0, or null"),
    ("evaluate.questions=0", "evaluate.questions = 0: must be a whole number, at least 1, or null"),
    ("train.num_generations=1", "train.num_generations = 1: must be a whole number, at least 2"),
    ("train.learning_rate=0", "train.learning_rate = 0: must be a number, above 0"),
    ("train.learning_rate=.inf", "train.learning_rate = Infinity: must be finite"),
    ("quantization=8bit", 'quantization = "8bit": must be 4bit, or null'),
    ("rewards.weights={int: .nan}", "rewards.weights.int = NaN: must be finite"),
    ("train.warmup_ratio=5", "train.warmup_ratio = 5: must be a number, at least 0, below 1"),
    ("train.adam_beta2=1", "train.adam_beta2 = 1: must be a number, at least 0, below 1"),
    ("base.slips=-0.1", "base.slips = -0.1: must be a number, at least 0, at most 1"),
    ("compare.resamples=10", "compare.resamples = 10: must be a whole number, at least 100"),
    # a value that is not one of the choices
    ("source=web", 'source = "web": must be one of hub, local, generated'),
    ("download.generated.problems=easy", 'download.generated.problems = "easy": must be one of simple, rich, longer'),
    ("extract.language=French", 'extract.language = "French": must be one of english, chinese'),
    ("train.loss_type=[grpo]", 'train.loss_type = "[grpo]": must be one of grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo, vespo'),
    ("train.importance_sampling_level=prompt", 'train.importance_sampling_level = "prompt": must be one of token, sequence'),
    ("train.multi_objective_aggregation=gdpo", 'train.multi_objective_aggregation = "gdpo": must be one of sum_then_normalize, normalize_then_sum'),
    ("train.vllm_importance_sampling_mode=token", 'train.vllm_importance_sampling_mode = "token": must be one of token_truncate, token_mask, sequence_truncate, sequence_mask'),
    ("train.top_p=0", "train.top_p = 0: must be a number, above 0, at most 1"),
    ("train.min_p=2", "train.min_p = 2: must be a number, at least 0, at most 1, or null"),
    ("train.top_k=-1", "train.top_k = -1: must be a whole number, at least 0"),
    ("train.delta=0.9", "train.delta = 0.9: must be a number, above 1, or null"),
    ("train.top_entropy_quantile=20", "train.top_entropy_quantile = 20: must be a number, at least 0, at most 1"),
    ("rewards.set=best", 'rewards.set = "best": must be one of published, robust, control'),
    ("rewards.weights={inte: 1}", f"rewards.weights.inte: no reward of the set 'robust'; choose from {ROBUST}"),
    ("rewards.weights={}", f"rewards.weights = {{}}: name at least one of {ROBUST}"),
    ("variants.short.rewards={set: control, weights: {int: 1}}", "variants.short.rewards.weights.int: no reward of the set 'control'; choose from random"),
    ("variants.Long={epochs: 9}", f"variants.Long: {NAME}"),
    ("variants={1: {epochs: 9}}", f"variants.1: {NAME}"),
    ("tracking.uri=localhost:5000", f'tracking.uri = "localhost:5000": {TRACKED}'),
    ("tracking.uri=./mlruns", f'tracking.uri = "./mlruns": {TRACKED}'),
    ("tracking.uri=http://me:pass@127.0.0.1:5000", PASSWORD),
    ("tracking.uri=me:pass@127.0.0.1:5000", PASSWORD),
    ("tracking.uri=postgresql+psycopg2://me:pass@host/db", PASSWORD),
    # a start that can't be
    ("variants.full.start=sft", 'variants.full.start = "sft": choose from short, short@50, short@100, null (base)'),
    ("variants.full.start=full", 'variants.full.start = "full": choose from short, short@50, short@100, null (base)'),
    ("variants.full.start=base", 'variants.full.start = "base": choose from short, short@50, short@100, null (base)'),
    ("variants.full.start=short@60", 'variants.full.start = "short@60": choose from short, short@50, short@100, null (base) (keep_checkpoints names the steps that are kept)'),
    ("variants.full.start=5", 'variants.full.start = "5": choose from short, short@50, short@100, null (base)'),
    ("variants={short: {start: full}, full: {start: short}, own: {epochs: 1}}", 'variants.full.start = "short": makes a circle, short from full from short; choose from own, null (base)'),
    ("variants={short: {start: own}, full: {start: short}, own: {epochs: 1, start: full}}", 'variants.full.start = "short": makes a circle, short from own from full from short; choose from null (base)'),
    # values that don't fit each other
    ("source=local", "path = null: source 'local' needs the folder that holds train.jsonl and test.jsonl (or .csv, "
     ".parquet) with a question and an answer in each row; set path=FOLDER"),
    ("method=dpo", 'method = "dpo": must be one of grpo, rloo, online_dpo, ppo, sft'),
    ("train.loss_type=cispo", "train.epsilon_high = null: loss_type 'cispo' takes it as the largest weight of a token, so it must be at least 1; set 5, for example"),
    ("train.loss_type=luspo", "train.importance_sampling_level = token: loss_type 'luspo' needs sequence"),
    ("train={loss_type: vespo, importance_sampling_level: sequence}", "train.importance_sampling_level = sequence: loss_type 'vespo' has a ratio of whole completions of its own; set token"),
    ("train={vllm_importance_sampling_clip_min: 3, vllm_importance_sampling_clip_max: 2}", "train.vllm_importance_sampling_clip_min = 3.0: must be below vllm_importance_sampling_clip_max (2.0)"),
    ("train={vllm_importance_sampling_mode: token_truncate, vllm_importance_sampling_clip_max: null}", "train.vllm_importance_sampling_mode = token_truncate: needs a limit to cut to; set vllm_importance_sampling_clip_max: 3, for example"),
    ("variants.short={method: sft, rewards: {set: control, weights: {random: 1}}}", "variants.short.rewards: method sft learns the answers and has no rewards; leave them out, or set method: grpo"),
    ("extract.answers=free", "extract.answers = free: variant short is of method grpo, whose rewards need a number as the answer to each question; set answers: gsm8k, or method: sft"),
    ("extract={answers: free, one_shot: true}", "extract.one_shot = true: the worked example has a form, which answers: free does not ask for; set it to false"),
    ("extract={answers: free, answer_form: hash}", "extract.answer_form = hash: answers: free has no form; leave answer_form: tags"),
    ("extract.answer_form=box", 'extract.answer_form = "box": must be one of tags, boxed, hash'),
    ("extract.answer_form=boxed", "extract.answer_form = boxed: the reward xmlcount of the set 'robust', which variant short uses, knows tags only; choose from strict_format, int, correctness, format, accuracy"),
    ("sft.loss_type=dapo", 'sft.loss_type = "dapo": must be one of nll, chunked_nll'),
    ("base=null", "base = null: model 'scratch' needs the section base; see workflow/recipes/defaults.yaml"),
    ("variants.base={epochs: 1}", "variants: name at least one, such as short: {max_steps: 250}; the name base is taken"),
    ("variants.short={max_steps: 9, epochs: 2}", "variants.short.max_steps = 9, epochs = 2.0: set exactly one of the two"),
    ("variants.short.max_steps=null", "variants.short.max_steps = null, epochs = null: set exactly one of the two"),
    ("base.architecture={hidden: 100, heads: 8}", "base.architecture.hidden = 100: must be a multiple of 2 * heads (16)"),
    ("base.styles={terse: 0, plain: 0, hurried: 0, tagged: 0}", "base.styles.terse, plain, hurried, tagged = 0: at least one must be above 0"),
    ("engine=vllm", "vllm = null: engine 'vllm' needs it, for example {max_model_length: 512, max_num_seqs: 256, kv_cache_gib: 4, sleep: false}"),
    ("engine=cuda", 'engine = "cuda": must be one of transformers, vllm, graphs'),
    ("engine=graphs", "graphs = null: engine 'graphs' needs it, for example {max_num_seqs: 512, kv_cache_gib: 4, compile: true}"),
    ("graphs={max_num_seqs: 0, kv_cache_gib: 1, compile: false}", "graphs.max_num_seqs = 0: must be a whole number, at least 1"),
    ("train.old_log_probs=sampled", "train.old_log_probs = sampled: needs engine 'vllm' or 'graphs', which return them; set computed"),
    ("train.compile=true", "train.compile = true: needs engine 'vllm' or 'graphs'; with engine 'transformers' the layers also generate, and would be compiled again for every length"),
    ("train.cuda_graphs=true", "train.cuda_graphs = true: graphs are of packed batches; set share_prompts: true, or cuda_graphs: false"),
    ("train.cuda_graphs=1", "train.cuda_graphs = 1: must be true or false"),
    ("gpus=0", "gpus = 0: must be a whole number, at least 1"),
    ("gpus=4", "gpus = 4: variant short has 2 prompts in an optimizer step (per_device_train_batch_size * gradient_accumulation_steps / num_generations), which 4 GPUs can't share evenly; choose a number that divides 2"),
    ("variants.full={method: sft, gpus: 3, epochs: 1}", "gpus = 3: variant full has 2 rows in an optimizer step (per_device_train_batch_size * gradient_accumulation_steps), which 3 GPUs can't share evenly; choose a number that divides 2"),
    ("shard_weights=true", "shard_weights = true: every variant is trained by one GPU; set gpus: 2, for example, or shard_weights: false"),
    ("shard_weights=2", "shard_weights = 2: must be true or false"),
    ("quantization=4bit", "quantization = 4bit: only adapters can be trained in it; set the section lora"),
    ("precision=float16", "precision = float16: only adapters can be trained in it; set the section lora"),
    ("backend=unsloth", "backend = unsloth: only trains adapters; set the section lora, or backend: trl"),
    ("lora={rank: 600, alpha: 4, targets: [q_proj]}", "lora.rank = 600: must be a whole number, at least 1, at most 512"),
    ("lora={rank: 4, alpha: 4}", "lora.targets: the key is missing; it must be a list, each a text, not empty"),
    ("train={share_prompts: true, per_device_train_batch_size: 4, gradient_accumulation_steps: 2}", "train.share_prompts = true: needs whole groups in a batch; per_device_train_batch_size (4) must be a multiple of num_generations (8)"),
    ("train.num_generations=6", "train.per_device_train_batch_size * gradient_accumulation_steps = 16: must be a multiple of num_generations (6)"),
    ("train={gradient_accumulation_steps: 2, steps_per_generation: 3}", "train.steps_per_generation = 3: must be a multiple of gradient_accumulation_steps (2)"),
    ("train.sample_prompts=17", f"train.sample_prompts = 17: must be at most 16, the prompts of one {GENERATION}"),
    ("keep_checkpoints=[100, 50]", "keep_checkpoints = [100, 50]: must be in ascending order without repeats: [50, 100]"),
    ("train.prompts=15", f"train.prompts = 15: must be at least 16, the prompts of one {GENERATION}"),
    ("download.generated.train_rows=599", "download.generated.train_rows = 599: must be at least 600, the sum of extract.validation_rows (200) and the rows for training (400, see train.prompts)"),
]  # fmt: skip


# The same for keys that a recipe sets together.
CHANGES = [
    (
        {"recipe": "rtx4090", "train.cuda_graphs": True},
        "train.cuda_graphs = true: the graphs of the update keep their memory while vLLM generates, and with vllm.sleep the two take turns; set vllm.sleep: false, engine: graphs, or cuda_graphs: false",
    ),
    (
        {"recipe": "vram7gb", "train.cuda_graphs": True},
        "train.cuda_graphs = true: backend 'unsloth' has an update of its own; set cuda_graphs: false, or backend: trl",
    ),
    (
        {"recipe": "rtx4090", "shard_weights": True},
        "shard_weights = true: divides weights that are trained, and with lora only adapters are; set shard_weights: false, or lora: null",
    ),
    (
        {"recipe": "smollm2", "gpus": 2, "shard_weights": True, "train.cuda_graphs": True},
        "train.cuda_graphs = true: graphs hold the weights in a fixed place, and shard_weights gathers them for each pass; set cuda_graphs: false, or shard_weights: false",
    ),
    (
        {"recipe": "smollm2", "gpus": 2, "shard_weights": True, "sft.optim": "adamw_8bit"},
        "sft.optim = adamw_8bit: its state can't be divided by shard_weights; choose from adamw_torch, adamw_torch_fused",
    ),
]


@pytest.fixture(scope="session")
def default(root):
    return root / "params.yaml"


@pytest.fixture
def edited(workdir):
    """A function that writes another params.yaml and returns its path."""

    def write(content):
        (workdir / "params.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return workdir / "params.yaml"

    return write


def message(path, overrides={}):
    with pytest.raises(PipelineError) as stopped:
        load(path, overrides)
    return str(stopped.value)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("download.hub.revision", 1234567,
         "download.hub.revision = 1234567: must be a text, not empty; write it in quotes"),
        ("evaluate.probes", ["Calculate pi", 3],
         "evaluate.probes.1 = 3: must be a text, not empty; write it in quotes"),
        ("chat_template_kwargs.date_string", date(2024, 7, 26),
         'chat_template_kwargs.date_string = "2024-07-26": must be a text, a number, true or false; write a date in '
         "quotes"),
    ],
)  # fmt: skip
def test_a_file_has_texts_that_look_like_something_else_in_quotes(default, key, value, line):
    assert message(default, {key: value}).splitlines()[1:] == [f"  {line}"]


@pytest.mark.parametrize(("override", "line"), MISTAKES, ids=[override for override, _ in MISTAKES])
def test_an_error_names_key_value_and_what_is_allowed(default, override, line):
    without_engine = TRANSFORMERS | {"graphs": None}
    assert message(default, without_engine | dict([parse_override(override)])).splitlines() == [
        f"the configuration ({default}, recipe tiny) is not valid:",
        f"  {line}",
    ]


@pytest.mark.parametrize(("changes", "line"), CHANGES, ids=[line.partition(":")[2] for _, line in CHANGES])
def test_an_error_names_what_a_recipe_and_a_key_together_do_not_allow(default, changes, line):
    assert message(default, changes).splitlines()[1:] == [f"  {line}"]


@pytest.mark.parametrize("changes", [{"vllm.sleep": False}, {"engine": "graphs", "graphs": GRAPHS}], ids=str)
def test_graphs_of_the_update_go_with_an_engine_that_keeps_its_memory(default, changes):
    assert load(default, {"recipe": "rtx4090", "train.cuda_graphs": True} | changes).train.cuda_graphs


def test_all_errors_are_reported_at_once(default):
    lines = message(default, {"sed": 1, "threads": 0, "train.optim": "sgd"}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["threads", "train.optim", "sed:"]


def test_missing_keys_are_named_with_what_each_must_be(edited):
    lines = message(edited("recipe: tiny\n")).splitlines()
    assert "  seed: the key is missing; it must be a whole number, at least 0, below 4294967296" in lines
    assert "  evaluate.probes: the key is missing; it must be a list, each a text, not empty" in lines


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [("tinny", '"tinny"'), (None, "null"), (7, "7"), (["tiny"], '["tiny"]'), ("../recipes/tiny", '"../recipes/tiny"')],
)
def test_an_unknown_recipe_names_the_known_ones(default, recipe, shown):
    assert message(default, {"recipe": recipe}) == f"{default}: recipe = {shown}: choose from {', '.join(recipes())}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ": the file must hold keys with values, such as seed: 42"),
        ("# recipe: tiny\n", ": the file must hold keys with values, such as seed: 42"),
        ("- recipe\n- tiny\n", ": the file must hold keys with values, such as seed: 42"),
        ("recipe: [tiny\n", ":2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("recipe: tiny\ntrain:\n\tprompts: 9\n", ":3: not valid YAML: found character '\\t' that cannot start any token: "
         "indent with spaces, not with tabs"),
        ("recipe: tiny\nseed: 1\nrecipe: tiny\n", ":3: not valid YAML: found duplicate key \"recipe\""),
        ("train: {prompts: 9, prompts: 10}\n", ":1: not valid YAML: found duplicate key \"prompts\""),
        ("path: {{folder}}\n", ":1: not valid YAML: found unhashable key"),
        ("recipe: tiny\nseed 3\n", ":3: not valid YAML: could not find expected ':'"),
        ("path: 2026-13-45\n", ": not valid YAML: month must be in 1..12"),
        ("recipe: !!python/object/apply:os.getcwd []\n", ":1: not valid YAML: could not determine a constructor for the "
         "tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'"),
        ("path: caf\xe9\n".encode("latin-1"), ": not UTF-8 (invalid continuation byte at byte 9)"),
        ("seed: 1\n", f": recipe = null: choose from {', '.join(recipes())}"),
    ],
)  # fmt: skip
def test_a_params_file_that_cannot_be_read_is_explained(edited, content, reason):
    path = edited(content)
    assert message(path) == f"{path}{reason}"


def test_a_missing_params_file_says_where_to_run(tmp_path):
    path = tmp_path / "params.yaml"
    assert message(path) == f"{path}: no such file; run from the folder that holds params.yaml"


@pytest.mark.parametrize(
    ("arguments", "stderr"),
    [
        (["extract", "--set", "compare.resample=500"], "error: the configuration (params.yaml, recipe tiny) is not valid:"
         "\n  compare.resample: no such key; did you mean compare.resamples? allowed: resamples\n"),
        (["base", "--set", "recipe=tinny"], f'error: params.yaml: recipe = "tinny": choose from {", ".join(recipes())}\n'),
        (["train", "--variant", "fall"], "error: --variant fall: choose from short, full\n"),
        (["evaluate", "--model", "long", "--set", "keep_checkpoints=[]"], "error: --model long: choose from base, short, full\n"),
        (["compare", "--set", "compare.resamples"], "error: 'compare.resamples': an override is written key=value, such as "
         "train.learning_rate=1e-4\n"),
        (["report", "--set", "seeds=[1"], "error: 'seeds=[1': the value is not valid YAML: expected ',' or ']', but got "
         "'<stream end>'\n"),
    ],
)  # fmt: skip
def test_a_command_stops_at_an_error_before_any_work_and_without_a_traceback(cli, workdir, arguments, stderr):
    done = cli(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", stderr)
    assert not (workdir / "results").exists()


def test_a_password_in_an_address_is_not_repeated(cli):
    done = cli("train", "--variant", "short", "--set", "tracking.uri=https://me:pass123@tracking.example")
    assert done.returncode == 1
    assert re.search(r"^  tracking\.uri: holds a user name or a password", done.stderr, re.MULTILINE)
    assert "pass123" not in done.stderr


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://tracking.example/?access_token=pass123", "access_token"),
        ("https://tracking.example/?a=1&Api%5FKey=pass123", "Api_Key"),
        ("postgresql://host/db?sslmode=require&password=pass123", "password"),
        ("tracking.example:5000?token=pass123", "token"),
    ],
)
def test_a_secret_among_the_parameters_of_an_address_is_refused_and_not_repeated(root, address, name):
    with pytest.raises(PipelineError, match=rf"tracking\.uri: holds a secret \({name}\)") as error:
        load(root / "params.yaml", {"tracking.uri": address})
    assert "pass123" not in str(error.value)


def test_an_address_may_have_other_parameters(root):
    address = "postgresql://host/db?sslmode=require"
    assert load(root / "params.yaml", {"tracking.uri": address}).tracking.uri == address
