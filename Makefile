# make report   set up and run the whole pipeline        make test    set up and run every test
# make ui       open MLflow on 127.0.0.1                  make control the random-reward control
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: report test check control ui lock clean

report: $(READY)
	snakemake --cores 1 report
	gsm8k-grpo summary

test: $(READY) check
	python -m pytest

check: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules

# Trains on rewards drawn at random, which must not teach anything, and reports it beside short and full.
control: $(READY)
	snakemake --cores 1 report --config 'variants={"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}'

ui: $(READY)
	mlflow ui --backend-store-uri sqlite:///$(CURDIR)/tracking/mlflow.db --host 127.0.0.1 --port 5000

# torch first and alone: where an index offers a CPU build, the pin takes it, and nothing later may replace it.
$(READY): envs/cpu.txt pyproject.toml
	python3 -m venv $(VENV)
	pip install --quiet "$$(grep '^torch==' envs/cpu.txt)"
	pip install --quiet --no-deps --requirement envs/cpu.txt
	pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

# Resolve envs/cpu.in anew and pin what comes out.
lock:
	python3 -m venv --clear $(VENV)
	pip install --quiet "$$(grep '^torch==' envs/cpu.in)"
	pip install --quiet --requirement envs/cpu.in
	echo '# Every package of the environment without a GPU, pinned; made from cpu.in by `make lock`.' > envs/cpu.txt
	pip freeze --all --exclude pip | sed 's/+cpu$$//' >> envs/cpu.txt

clean:
	rm -rf $(VENV) .snakemake
