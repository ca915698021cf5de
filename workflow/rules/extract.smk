rule extract:
    input:
        "results/download/train.jsonl",
        "results/download/test.jsonl",
    output:
        "results/extract/train.jsonl",
        "results/extract/validation.jsonl",
        "results/extract/test.jsonl",
        "results/extract/metrics.json",
    log:
        "logs/extract.log",
    params:
        extract=lookup(dpath="extract", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo extract > >(tee -i {log}) 2>&1"
