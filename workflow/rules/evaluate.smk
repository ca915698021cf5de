rule evaluate:
    input:
        "results/extract/test.jsonl",
        weights,
    output:
        "results/evaluate/{model}/answers.jsonl",
        "results/evaluate/{model}/probes.jsonl",
        "results/evaluate/{model}/metrics.json",
    log:
        "logs/evaluate/{model}.log",
    resources:
        gpu=1,
    params:
        evaluate=lookup(dpath="evaluate", within=config),
        prompt=lookup(dpath="extract", within=config),
        resamples=lookup(dpath="compare/resamples", within=config),
        threads=lookup(dpath="threads", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo evaluate --model {wildcards.model} 2>&1 | tee {log}"
