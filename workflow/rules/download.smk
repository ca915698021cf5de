rule download:
    input:
        local_files,
    output:
        "results/download/train.jsonl",
        "results/download/test.jsonl",
        "results/download/source.json",
        "results/download/configuration.json",
    log:
        "logs/download.log",
    params:
        source=lookup(dpath="source", within=config),
        path=lookup(dpath="path", within=config),
        download=lookup(dpath="download", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo download --part splits > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"


# A separate job, since another test set does not change the training data.
rule download_sets:
    input:
        local_sets,
    output:
        expand("results/download/sets/{set}.jsonl", set=SETS),
        "results/download/sets/source.json",
        "results/download/sets/configuration.json",
    log:
        "logs/download_sets.log",
    params:
        sets=lookup(dpath="evaluate/sets", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo download --part sets > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
