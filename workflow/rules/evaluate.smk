rule evaluate:
    input:
        "results/extract/test.jsonl",
        "results/extract/validation.jsonl",
        "results/extract/train.jsonl",
        expand("results/extract/sets/{set}.jsonl", set=SETS),
        weights,
    output:
        "results/evaluate/{model}/answers.jsonl",
        "results/evaluate/{model}/sampled.jsonl",
        expand("results/evaluate/{{model}}/prompts/{prompt}.jsonl", prompt=PROMPTS),
        expand("results/evaluate/{{model}}/sets/{set}.jsonl", set=SETS),
        "results/evaluate/{model}/probes.jsonl",
        "results/evaluate/{model}/checkpoints.jsonl",
        report(
            "results/evaluate/{model}/metrics.json",
            caption="../report/evaluation.rst",
            category="Evaluation",
            labels={"model": "{model}"},
        ),
        "results/evaluate/{model}/configuration.json",
    log:
        "logs/evaluate/{model}.log",
    wildcard_constraints:
        model="[^@/]+",
    resources:
        **of_nodes(lambda wildcards: config["gpus"]),
        gpu=config["gpus"],
    params:
        evaluate=lookup(dpath="evaluate", within=config),
        keep_checkpoints=lookup(dpath="keep_checkpoints", within=config),
        prompt=lookup(dpath="extract", within=config),
        rewards=lookup(dpath="rewards", within=config),
        resamples=lookup(dpath="compare/resamples", within=config),
        chat_template_kwargs=lookup(dpath="chat_template_kwargs", within=config),
        engine=lookup(dpath="engine", within=config),
        precision=lookup(dpath="precision", within=config),
        quantization=lookup(dpath="quantization", within=config),
        gpus=lookup(dpath="gpus", within=config),
        vllm=lookup(dpath="vllm", within=config),
        graphs=lookup(dpath="graphs", within=config),
        vram_gib=lookup(dpath="vram_gib", within=config),
        threads=lookup(dpath="threads", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo evaluate --model {wildcards.model} > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"


# A kept checkpoint, such as short@100, has no learning curve of its own.
use rule evaluate as evaluate_checkpoint with:
    output:
        "results/evaluate/{model}/answers.jsonl",
        "results/evaluate/{model}/sampled.jsonl",
        expand("results/evaluate/{{model}}/prompts/{prompt}.jsonl", prompt=PROMPTS),
        expand("results/evaluate/{{model}}/sets/{set}.jsonl", set=SETS),
        "results/evaluate/{model}/probes.jsonl",
        "results/evaluate/{model}/metrics.json",
        "results/evaluate/{model}/configuration.json",
    wildcard_constraints:
        model="[^@/]+@[^@/]+",
