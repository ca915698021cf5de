rule base:
    input:
        "results/extract/train.jsonl",
    output:
        "results/base/base.json",
        "results/base/configuration.json",
    log:
        "logs/base.log",
    params:
        model=lookup(dpath="model", within=config),
        base=lookup(dpath="base", within=config),
        answer_form=lookup(dpath="extract/answer_form", within=config),
        threads=lookup(dpath="threads", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo base > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
