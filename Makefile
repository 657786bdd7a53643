# Everything here makes and uses its own .venv; nothing but Python >= 3.11 must be installed.
#
#   make demo        refine the example photo and say where the pictures are
#   make test        style, types, layers and tests: what has to pass before a change is merged
#   make test-slow   the tests that take long
#   make bench       the numbers of the README; DATA=folder with rooms, settings and gqcnn
#   make weights     train weights as the shipped ones were, hours on two cores; ASSETS=folder of
#                    panoramas, PHOTOS=folder for textures, DEPTH_MODEL=file.onnx
#   make weights-posed  the same for the networks of posed photos; ASSETS and PHOTOS
#   make clean       remove .venv and the demo
#
# Another Python: make clean, then make PYTHON=python3.12 demo

PYTHON ?= python3
DATA ?=
ASSETS ?=
PHOTOS ?=
DEPTH_MODEL ?=
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/parrots
DEMO := demo
TRAINING := training
TRAIN = $(BIN)/crispdepth train layered --bf16 --boundary-weight 4 --hidden-weight 0.1 \
	--data $(TRAINING)/rooms.pack $(TRAINING)/objects.pack
POSED = --size 320x240 --spp 4 --assets "$(ASSETS)" --photos "$(PHOTOS)"
MULTIVIEW = $(BIN)/crispdepth train multiview --planes 0.3 --ema 0.995 \
	--data $(TRAINING)/paths.pack $(TRAINING)/orbits.pack
VOLUME = $(BIN)/crispdepth train volume --data $(TRAINING)/paths.pack
FUSION = $(VOLUME) --views 2 6
STEREO = $(VOLUME) --stage stereo --preset volume-stereo-small --pose-errors 0 --masked 0
SCENES = --size 400x300 --spp 4 --assets "$(ASSETS)" --photos "$(PHOTOS)"
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt

# These would send an installation, or an import, to somewhere else than .venv.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONHOME PYTHONPATH

.PHONY: help demo test test-slow bench weights weights-posed clean
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

# Every run continues where it was interrupted.
weights: $(VENV)/dev
	@test -n "$(ASSETS)" -a -n "$(PHOTOS)" -a -n "$(DEPTH_MODEL)" || { echo "make weights needs \
	ASSETS=folder of panoramas (.hdr), PHOTOS=folder of photos, DEPTH_MODEL=file.onnx" >&2; exit 1; }
	$(BIN)/crispdepth synth rooms -o $(TRAINING)/rooms --count 200 --seed 11 $(SCENES)
	$(BIN)/crispdepth synth objects -o $(TRAINING)/objects --count 130 --seed 12 $(SCENES)
	for kind in rooms objects; do test -f $(TRAINING)/$$kind.pack/index.json || \
		$(BIN)/crispdepth train pack $(TRAINING)/$$kind -o $(TRAINING)/$$kind.pack --longest 400 \
			--depth-model "$(DEPTH_MODEL)" || exit 1; done
	$(TRAIN) -o $(TRAINING)/stage1 --stage 1 --size 128 --steps 1500 --set real_edges=0
	$(TRAIN) -o $(TRAINING)/stage2 --init $(TRAINING)/stage1 --size 128 --steps 6000 \
		--set real_edges=0.4
	$(TRAIN) -o $(TRAINING)/large --init $(TRAINING)/stage2 --size 256 --batch 4 --steps 2200 \
		--every 100 --lr 2e-4 --warmup 100 --caution 3 --set real_edges=0.6 real_rough=0.9
	$(BIN)/crispdepth train export $(TRAINING)/large -o $(TRAINING)/weights \
		--gate-threshold 0.85 --gate-sharpness 2
	@echo "The weights: $(TRAINING)/weights; compare them with the shipped ones:"
	@echo "  crispdepth bench refine FOLDER --weights new=$(TRAINING)/weights"

# The scenes, then multiview-small, volume-small and volume-stereo-small. The runs with batches of 8
# and more want a GPU; where the shipped weights were made otherwise, their cards say so.
weights-posed: $(VENV)/dev
	@test -n "$(ASSETS)" -a -n "$(PHOTOS)" || { echo "make weights-posed needs \
	ASSETS=folder of panoramas (.hdr), PHOTOS=folder of photos" >&2; exit 1; }
	$(BIN)/crispdepth synth rooms -o $(TRAINING)/paths --count 130 --seed 51 \
		--frames-per-scene 6 --cameras path $(POSED)
	$(BIN)/crispdepth synth objects -o $(TRAINING)/orbits --count 120 --seed 52 \
		--frames-per-scene 12 --cameras orbit $(POSED)
	for kind in paths orbits; do test -f $(TRAINING)/$$kind.pack/index.json || \
		$(BIN)/crispdepth train pack $(TRAINING)/$$kind -o $(TRAINING)/$$kind.pack || exit 1; done
	$(MULTIVIEW) -o $(TRAINING)/multiview-a --curriculum "1 128x160 2-4 1" --steps 1500 --lr 1e-3
	$(MULTIVIEW) -o $(TRAINING)/multiview-b --init $(TRAINING)/multiview-a \
		--curriculum "1 128x160 2-4 2" --steps 800 --lr 1e-3 --warmup 50
	$(MULTIVIEW) -o $(TRAINING)/multiview-c --init $(TRAINING)/multiview-b \
		--curriculum "0.9 128x160 3-5 2, 0.1 192x256 3-4 2" --steps 280 --lr 6e-4 --warmup 20
	$(MULTIVIEW) -o $(TRAINING)/multiview-d --init $(TRAINING)/multiview-c \
		--curriculum "0.65 128x160 2-4 2, 0.35 192x256 3-4 1" --steps 1700 --lr 8e-4 --warmup 40
	$(MULTIVIEW) -o $(TRAINING)/multiview-e --init $(TRAINING)/multiview-d --ema 0.998 --lr 1e-3 \
		--warmup 100 --references 3 --steps 1186 --every 198 --seed 7 \
		--curriculum "398 128x160 2-6 32, 477 192x256 3-7 16, 311 256x320 4-7 8"
	$(BIN)/crispdepth train depths $(TRAINING)/paths.pack -o $(TRAINING)/paths.classical \
		--method classical --every 3
	$(BIN)/crispdepth train depths $(TRAINING)/paths.pack -o $(TRAINING)/paths.network \
		--corrections 1
	$(FUSION) -o $(TRAINING)/volume-a --depths $(TRAINING)/paths.network \
		--batch 8 --steps 671 --every 83 --lr 2e-3 --warmup 67 --ema 0.998
	$(FUSION) -o $(TRAINING)/volume-b --init $(TRAINING)/volume-a \
		--depths $(TRAINING)/paths.network \
		--batch 8 --steps 360 --every 60 --lr 1.2e-3 --warmup 15 --seed 3
	$(FUSION) -o $(TRAINING)/volume-c --init $(TRAINING)/volume-b \
		--depths $(TRAINING)/paths.network $(TRAINING)/paths.classical \
		--steps 1600 --every 400 --lr 6e-4 --warmup 20 --ema 0.995 --seed 5
	$(STEREO) -o $(TRAINING)/stereo --batch 8 --steps 2131 --every 266 --size 192 256 \
		--views 2 4 --truth 4 --overlap-loss entropy --lr 2e-3 --warmup 100 --ema 0.998
	for run in multiview-e volume-c stereo; do \
		$(BIN)/crispdepth train export $(TRAINING)/$$run -o $(TRAINING)/$$run.weights || exit 1; done

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
