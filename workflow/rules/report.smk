rule report:
    input:
        "results/download/source.json",
        "results/extract/metrics.json",
        "results/base/base.json",
        "results/compare/comparison.json",
        expand(
            "results/train/{variant}/{file}",
            variant=VARIANTS,
            file=["history.csv", "samples.jsonl", "metrics.json"],
        ),
        expand(
            "results/evaluate/{model}/{file}",
            model=MODELS,
            file=["answers.jsonl", "probes.jsonl", "metrics.json"],
        ),
    output:
        report(
            "results/report/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
        report(
            expand("results/report/{figure}.png", figure=["accuracy", "rewards", "training"]),
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "logs/report.log",
    params:
        configuration=config,
    shell:
        "gsm8k-grpo report 2>&1 | tee {log}"
