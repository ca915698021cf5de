rule download:
    input:
        local_files,
    output:
        "results/download/train.jsonl",
        "results/download/test.jsonl",
        "results/download/source.json",
    log:
        "logs/download.log",
    params:
        source=lookup(dpath="source", within=config),
        path=lookup(dpath="path", within=config),
        download=lookup(dpath="download", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo download > >(tee -i {log}) 2>&1"
