rule compare:
    input:
        expand("results/evaluate/{model}/answers.jsonl", model=MODELS + FURTHER_RUNS),
    output:
        report(
            "results/compare/gains.json",
            caption="../report/gains.rst",
            category="Comparison",
            labels={"what": "where the gains come from"},
        ),
        report(
            "results/compare/seeds.json",
            caption="../report/seeds.rst",
            category="Comparison",
            labels={"what": "seeds"},
        ),
        report(
            "results/compare/comparison.json",
            caption="../report/comparison.rst",
            category="Comparison",
            labels={"what": "differences"},
        ),
        "results/compare/configuration.json",
    log:
        "logs/compare.log",
    params:
        variants=lookup(dpath="variants", within=config),
        compare=lookup(dpath="compare", within=config),
        seeds=lookup(dpath="seeds", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo compare > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
