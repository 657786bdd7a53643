# Everything here makes and uses its own .venv; nothing but Python >= 3.11 must be installed.
#
#   make demo        refine the example photo and say where the pictures are
#   make test        style, types, layers and tests: what has to pass before a change is merged
#   make test-slow   the tests that take long
#   make bench       the numbers of the README; DATA=folder with rooms, settings and gqcnn
#   make clean       remove .venv and the demo
#
# Another Python: make clean, then make PYTHON=python3.12 demo

PYTHON ?= python3
DATA ?=
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/parrots
DEMO := demo
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt

# These would send an installation, or an import, to somewhere else than .venv.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONHOME PYTHONPATH

.PHONY: help demo test test-slow bench clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   make /make /p' Makefile

demo: $(VENV)/core
	$(BIN)/crispdepth refine $(EXAMPLE).jpg --depth $(EXAMPLE)_depth.png \
		--mask $(EXAMPLE)_mask.png -o $(DEMO) --overwrite
	@$(BIN)/crispdepth compare $(EXAMPLE)_depth.png $(DEMO)/parrots/depth.exr \
		--image $(EXAMPLE).jpg --mask $(EXAMPLE)_mask.png -o $(DEMO)/compare.html >/dev/null
	@echo
	@echo "The pictures: $(CURDIR)/$(DEMO)/parrots/preview.png  (before, after, layers)"
	@echo "              $(CURDIR)/$(DEMO)/compare.html  (with sliders, for a browser)"
	@echo "The results:  $(CURDIR)/$(DEMO)/parrots/"

test: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-slow: $(VENV)/dev
	$(BIN)/pytest -m slow

bench: $(VENV)/dev
	@test -n "$(DATA)" || { echo "make bench needs DATA=folder with rooms, settings, gqcnn" >&2; exit 1; }
	$(BIN)/python benchmarks/refine_quality.py --data "$(DATA)"
	$(BIN)/python benchmarks/mask_degradation.py --data "$(DATA)"
	$(BIN)/python benchmarks/mask_robustness.py --data "$(DATA)"
	$(BIN)/python benchmarks/refine_speed.py
	$(BIN)/python benchmarks/layered_speed.py
	$(BIN)/python benchmarks/batch_memory.py

clean:
	rm -rf $(VENV) $(DEMO)

# Stamps of what is installed: a second run installs nothing.
$(VENV)/core: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing crispdepth into $(VENV) ..."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/dev: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing crispdepth with its development tools into $(VENV) ..."
	@$(INSTALL) -e '.[dev]'
	@touch $(VENV)/core $@

$(VENV)/pyvenv.cfg:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no $(PYTHON); name a Python >= 3.11: make PYTHON=... $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		"$(PYTHON) is Python %d.%d; name one >= 3.11: make PYTHON=..." % v[:2])'
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments; install its venv package (python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
