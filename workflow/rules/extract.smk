rule extract:
    input:
        "results/download/train.jsonl",
        "results/download/test.jsonl",
    output:
        "results/extract/train.jsonl",
        "results/extract/validation.jsonl",
        "results/extract/test.jsonl",
        "results/extract/metrics.json",
        "results/extract/configuration.json",
    log:
        "logs/extract.log",
    params:
        extract=lookup(dpath="extract", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo extract --part splits > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"


rule extract_sets:
    input:
        expand("results/download/sets/{set}.jsonl", set=SETS),
        "results/download/sets/source.json",
        "results/extract/train.jsonl",
        "results/extract/validation.jsonl",
        "results/extract/test.jsonl",
    output:
        expand("results/extract/sets/{set}.jsonl", set=SETS),
        "results/extract/sets/metrics.json",
        "results/extract/sets/configuration.json",
        "results/extract/overlap.json",
    log:
        "logs/extract_sets.log",
    params:
        sets=lookup(dpath="evaluate/sets", within=config),
        overlap_words=lookup(dpath="evaluate/overlap_words", within=config),
        extract=lookup(dpath="extract", within=config),
    shell:
        "gsm8k-grpo extract --part sets > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
