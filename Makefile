# make report    set up and run the whole pipeline       make test    set up and run every test
# make control   train on a random reward beside it      make ui      open MLflow on 127.0.0.1:5000
# make audit     look the locked packages up in the database of known vulnerabilities
# make image     build the container of the pipeline      make container-report     run the pipeline in it
# make docs      write docs/params.md anew, after a change of a key or of its comment
# make sync      after dvc pull or dvc checkout: Snakemake takes the results as up to date
VENV := .venv
READY := $(VENV)/.ready
PIP := $(VENV)/bin/pip
IN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
WHOLE := tests/pipeline/test_pipeline.py
CONTROL := {"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}

# The container, for a card (cuda) or without one (cpu); docs/container.md.
ENGINE := docker
TARGET := cuda
BASE :=
GPU := $(if $(filter cuda,$(TARGET)),--gpus all)

.PHONY: report test check control ui docs sync image container-report test-container audit lock lock-cuda clean

report: $(READY)
	$(IN) snakemake --cores 1 report

# The whole pipeline computes on every core, so it runs alone; after it, everything else a file on each of two cores,
# in the order of their names: by the number of tests the longest files would come last, and one core wait for them.
test: check
	$(IN) python -m pytest $(WHOLE)
	$(IN) python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore $(WHOLE)

check: $(READY)
	$(IN) ruff check .
	$(IN) ruff format --check .
	$(IN) snakefmt --check Snakefile workflow/rules

# Rewards drawn at random must not teach anything.
control: $(READY)
	$(IN) snakemake --cores 1 report --config 'variants=$(CONTROL)'

ui: $(READY)
	@echo "open $$($(IN) gsm8k-grpo view)"
	$(IN) MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri sqlite:///$(CURDIR)/tracking/mlflow.db --host 127.0.0.1 --port 5000

docs: $(READY)
	$(IN) python -m gsm8k_grpo.config.reference

sync: $(READY)
	$(IN) gsm8k-grpo sync

image:
	@test -n '$(BASE)$(filter cuda,$(TARGET))' || { echo 'error: give BASE=IMAGE@sha256:..., see docs/container.md' >&2; exit 1; }
	$(ENGINE) build --file containers/Dockerfile --target $(TARGET) --tag gsm8k-grpo:$(TARGET) \
		$(if $(BASE),--build-arg BASE=$(BASE)) --build-arg REVISION=$$(git rev-parse HEAD) $(BUILD_FLAGS) envs

# The repository stands at the same path inside; what is written there belongs to who runs this.  The report names the
# image's digest.
container-report:
	$(ENGINE) run --rm --init --user $$(id -u):$$(id -g) --cap-drop all --security-opt no-new-privileges $(GPU) \
		--env GSM8K_GRPO_IMAGE="$$($(ENGINE) image inspect --format '{{.Id}}' gsm8k-grpo:$(TARGET))" \
		--shm-size 8g --volume gsm8k-grpo-cache:/cache --volume '$(CURDIR):$(CURDIR)' --workdir '$(CURDIR)' $(RUN_FLAGS) \
		gsm8k-grpo:$(TARGET) snakemake --cores 1 report

# As root, with Debian's buildah, podman and debootstrap.
test-container: $(READY)
	$(IN) python -m pytest -m container tests/pipeline/test_container.py

# torch first and alone: where an index offers a CPU build, the pin takes it, and nothing later may replace it.
$(READY): envs/cpu.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.txt)"
	$(PIP) install --quiet --no-deps --requirement envs/cpu.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

# A tool beside the project, so it has an environment of its own; needs a network that reaches PyPI's own server.
# A package that the server doesn't know was not audited, and fails it too.
audit:
	python3 -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement envs/cpu.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement envs/cuda.txt

# Resolve envs/cpu.in anew and pin what comes out.  Playwright stays out: the tests drive Debian's chromium, and of
# axe-playwright-python they take axe-core.
lock:
	python3 -m venv --clear $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.in)"
	$(PIP) install --quiet --requirement envs/cpu.in
	$(PIP) uninstall --quiet --yes playwright pyee
	echo '# Every package of the environment without a GPU, pinned; made from cpu.in by `make lock`.' > envs/cpu.txt
	$(PIP) freeze --all --exclude pip | sed 's/+cpu$$//' >> envs/cpu.txt

# The same for a CUDA card, with the digest of every file; needs uv.
lock-cuda:
	echo '# Every package of the environment for one CUDA card, pinned, for Python 3.12; made from cuda.in by `make lock-cuda`.' > envs/cuda.txt
	uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_39 --generate-hashes --no-annotate --no-header envs/cuda.in >> envs/cuda.txt

clean:
	rm -rf $(VENV) .snakemake
