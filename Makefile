# make report      sets up .venv/ and runs the whole pipeline      make test        sets up .venv/ and runs every test
# make report RECIPE=NAME   the same with a recipe; one for a GPU gets .venv-cuda/, after a look at the machine
# make test-fast   unit tests and checks, under three minutes     make check       lint, imports between rooms, types
# make control     also trains on random rewards                  make ui          opens MLflow on 127.0.0.1:5000
# make image       builds the container of the pipeline           make container-report   runs the pipeline in it
# make docs        writes docs/params.md from the fields of the configuration
# make sync        after dvc pull or dvc checkout: tells Snakemake that the results are up to date
# make audit       looks the locked packages up in the database of known vulnerabilities
VENV := .venv
# A name of workflow/recipes, and further keys such as CONFIG='source=local path=FOLDER'.
RECIPE :=
CONFIG :=
READY := $(VENV)/.ready
PIP := $(VENV)/bin/pip
IN := PATH="$$PWD/$(VENV)/bin:$$PATH"
WHOLE := tests/pipeline/test_pipeline.py
CONTROL := {"control": {"epochs": 3, "rewards": {"set": "control", "weights": {"random": 1.0}}}}

# The container, for a GPU (cuda) or without one (cpu); docs/container.md.
ENGINE := docker
TARGET := cuda
BASE :=
GPU := $(if $(filter cuda,$(TARGET)),--gpus all)

.PHONY: report test test-fast check control ui docs sync image container-report test-container audit lock lock-cuda clean

# Without --quiet Snakemake prints every file of every job.
ifeq ($(RECIPE),)
report: $(READY)
	$(IN) snakemake --cores 1 report --quiet rules host
else
report:
	python3 envs/run_recipe.py '$(RECIPE)' $(CONFIG)
endif

# The whole pipeline uses every core, so its test runs alone.  Its threads wait busily for a short time only (GOMP_SPINCOUNT):
# beside other work, threads that wait busily take the core from those that compute.  After it two processes take one file
# each and compute on one thread, the folders with the longest files first: if one of them came last, a core would wait.
test: check
	$(IN) GOMP_SPINCOUNT=1000 python -m pytest $(WHOLE)
	$(IN) OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore $(WHOLE) \
		tests/pipeline tests/stages tests/browser tests/commands tests/docs tests/gpu tests/unit

# Without the tests that start commands, each of which imports PyTorch again.  The models in these tests are so small
# that PyTorch computes faster on one thread.
test-fast: check
	$(IN) OMP_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile -m 'not command and not container' tests/unit

check: $(READY)
	$(IN) ruff check .
	$(IN) ruff format --check .
	$(IN) snakefmt --check Snakefile workflow/rules
	$(IN) lint-imports --no-logo
	$(IN) mypy

# A control: training on random rewards must not teach anything.
control: $(READY)
	$(IN) snakemake --cores 1 report --config 'variants=$(CONTROL)'

ui: $(READY)
	@echo "open $$($(IN) gsm8k-grpo view)"
	$(IN) MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri sqlite:///tracking/mlflow.db --host 127.0.0.1 --port 5000

docs: $(READY)
	$(IN) python -m gsm8k_grpo.config.reference

sync: $(READY)
	$(IN) gsm8k-grpo sync

image:
	@test -n '$(BASE)$(filter cuda,$(TARGET))' || { echo 'error: give BASE=IMAGE@sha256:..., see docs/container.md' >&2; exit 1; }
	$(ENGINE) build --file containers/Dockerfile --target $(TARGET) --tag gsm8k-grpo:$(TARGET) \
		$(if $(BASE),--build-arg BASE=$(BASE)) --build-arg REVISION=$$(git rev-parse HEAD) $(BUILD_FLAGS) envs

# The repository is mounted at the path that it has outside, and files that are written belong to the user who runs this.
# The report names the image's digest.
container-report:
	$(ENGINE) run --rm --init --user $$(id -u):$$(id -g) --cap-drop all --security-opt no-new-privileges $(GPU) \
		--env GSM8K_GRPO_IMAGE="$$($(ENGINE) image inspect --format '{{.Id}}' gsm8k-grpo:$(TARGET))" \
		--shm-size 8g --volume gsm8k-grpo-cache:/cache --volume "$$PWD:$$PWD" --workdir "$$PWD" $(RUN_FLAGS) \
		gsm8k-grpo:$(TARGET) snakemake --cores 1 report

# As root, with Debian's buildah, podman and debootstrap.
test-container: $(READY)
	$(IN) python -m pytest -m container tests/pipeline/test_container.py

# torch is installed first and by itself: where an index offers a CPU build, the pin takes it, and nothing later replaces it.
$(READY): envs/cpu.txt pyproject.toml
	python3 -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.txt)"
	$(PIP) install --quiet --no-deps --requirement envs/cpu.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

# pip-audit has an environment of its own, since it is no part of the project; it needs a network that reaches PyPI itself.
# A package that PyPI does not know was not audited, so it fails the audit too.
audit:
	python3 -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement envs/cpu.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement envs/cuda.txt

# Resolves envs/cpu.in anew and pins the result.  Playwright is removed: the tests drive Debian's chromium, and they use
# only axe-core of axe-playwright-python.
lock:
	python3 -m venv --clear $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' envs/cpu.in)"
	$(PIP) install --quiet --requirement envs/cpu.in
	$(PIP) uninstall --quiet --yes playwright pyee
	echo '# Every package of the environment without a GPU, pinned; made from cpu.in by `make lock`.' > envs/cpu.txt
	$(PIP) freeze --all --exclude pip | sed 's/+cpu$$//' >> envs/cpu.txt

# The same for a CUDA GPU, with the digest of every file; needs uv.
lock-cuda:
	echo '# Every package of the environment for one CUDA GPU, pinned, for Python 3.12; made from cuda.in by `make lock-cuda`.' > envs/cuda.txt
	uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_39 --generate-hashes --no-annotate --no-header envs/cuda.in >> envs/cuda.txt

clean:
	rm -rf $(VENV) .venv-cuda
