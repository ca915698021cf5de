rule configure:
    output:
        "results/configure/params.yaml",
    log:
        "logs/configure.log",
    params:
        configuration=config,
    shell:
        "gsm8k-grpo configure > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
