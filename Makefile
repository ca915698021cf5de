# make report    set up and run the whole pipeline       make test    set up and run every test
# make control   train on a random reward beside it      make ui      open MLflow on 127.0.0.1:5000
VENV := .venv
READY := $(VENV)/.ready
PIP := $(VENV)/bin/pip
IN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
CONTROL := {"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}

.PHONY: report test check control ui lock clean

report: $(READY)
	$(IN) snakemake --cores 1 report

test: check
	$(IN) python -m pytest

check: $(READY)
	$(IN) ruff check .
	$(IN) ruff format --check .
	$(IN) snakefmt --check Snakefile workflow/rules

# Rewards drawn at random must not teach anything.
control: $(READY)
	$(IN) snakemake --cores 1 report --config 'variants=$(CONTROL)'

ui: $(READY)
	$(IN) mlflow ui --backend-store-uri sqlite:///$(CURDIR)/tracking/mlflow.db --host 127.0.0.1 --port 5000

# torch first and alone: where an index offers a CPU build, the pin takes it, and nothing later may replace it.
$(READY): envs/cpu.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.txt)"
	$(PIP) install --quiet --no-deps --requirement envs/cpu.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

# Resolve envs/cpu.in anew and pin what comes out.
lock:
	python3 -m venv --clear $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.in)"
	$(PIP) install --quiet --requirement envs/cpu.in
	echo '# Every package of the environment without a GPU, pinned; made from cpu.in by `make lock`.' > envs/cpu.txt
	$(PIP) freeze --all --exclude pip | sed 's/+cpu$$//' >> envs/cpu.txt

clean:
	rm -rf $(VENV) .snakemake
