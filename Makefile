# `make help` lists the targets.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
OUT ?= demo
DATA ?= ../shared/data
METHODS ?=

bin := $(abspath $(VENV))/bin
pip := $(bin)/python -m pip install --quiet --quiet --disable-pip-version-check
native_sources := setup.py pyproject.toml CMakeLists.txt $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*/*.h csrc/*/*/*/*.h csrc/cuda/*.cu csrc/cuda/*.cuh)

.DELETE_ON_ERROR:
.PHONY: help demo test lint native sanitize bench evaluate gpu clean

help:
	@echo "make demo      install into $(VENV), build the native library, draw pictures into $(OUT)/"
	@echo "make test      all tests, C++ and Python, with coverage"
	@echo "make lint      ruff and mypy"
	@echo "make native    build the C++ library and run its tests"
	@echo "make sanitize  the C++ tests under the address and undefined-behaviour sanitizers"
	@echo "make bench     speed beside rivals, into benchmarks/results/"
	@echo "make evaluate  the tables of docs/evaluation.md, from the weights and images in DATA; goes on where it stopped"
	@echo "make gpu       on a machine with a GPU: its tests and benchmarks, with the packages of $(PYTHON), no network"
	@echo "make clean     remove everything that make has written"
	@echo "Settings: PYTHON=$(PYTHON) TORCH=$(TORCH) VENV=$(VENV) OUT=$(OUT) DATA=$(DATA) METHODS=$(METHODS)"

demo: $(VENV)/.installed
	@$(bin)/fwdkern demo --out $(OUT)

test: native $(VENV)/.tools
	@OMP_NUM_THREADS=1 $(bin)/python -m pytest -p tests.backends_ran -n 2 --dist loadfile \
		--cov=fwdkern --cov-report=term:skip-covered

lint: $(VENV)/.tools
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy

bench: $(VENV)/.tools
	@$(bin)/python -m benchmarks

imagenet := --resize 256 --crop 224
squeezenet := -m tests.networks.squeezenet:squeezenet1_1 -w $(DATA)/weights/squeezenet1_1_imagenet_fp16.safetensors \
	$(imagenet) --mean .485,.456,.406 --std .229,.224,.225
mobilenet := -m tests.networks.mobilenet_v2:mobilenet_v2 -w $(DATA)/weights/mobilenet_v2_tf_imagenet_fp16.safetensors \
	$(imagenet) --mean .5 --std .5
resnet := -m tests.networks.resnet_cifar:resnet20 -w $(DATA)/weights/resnet20_cifar10.safetensors --size 32 \
	--mean .485,.456,.406 --std .229,.224,.225
photos := $(DATA)/imagenet_samples -a $(DATA)/imagenet_samples/labels.json
boxed := $(DATA)/imagenet_val_bbox -a $(DATA)/imagenet_val_bbox/boxes.json --target label
# What the settings were chosen on is the other half.
evaluate = @$(bin)/fwdkern evaluate --half odd --report docs/evaluation.md $(METHODS:%=--method %) --out docs/evaluation

evaluate: $(VENV)/.tools
	$(evaluate)/squeezenet-photos $(squeezenet) $(photos)
	$(evaluate)/squeezenet-boxed $(squeezenet) $(boxed)
	$(evaluate)/mobilenet-photos $(mobilenet) $(photos)
	$(evaluate)/mobilenet-boxed $(mobilenet) $(boxed)
	$(evaluate)/resnet20-cifar $(resnet) $(DATA)/cifar10/cifar10_test100_lossless.npz
	$(evaluate)/digits --target label

# The packages are those that the machine has: torch for CUDA brings triton along.
gpu:
	@$(PYTHON) -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None and "$(PYTHON) has no torch")'
	@$(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available() and "there is no GPU that torch can use")'
	@$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable . || { \
		echo "No editable install (it needs setuptools 77): the sources are used where they lie, without a native library."; \
		ln -sfn ../kernels fwdkern/kernels; }
	@end=$$(($$(date +%s) + 530)); \
	TRITON_INTERPRET=0 timeout --signal=INT --kill-after=10 240 $(PYTHON) -m pytest -q tests/gpu; tests=$$?; \
	$(PYTHON) -m benchmarks --gpu --seconds $$((end - $$(date +%s) - 60)) && exit $$tests

native: build/cmake/.configured
	@$(bin)/cmake --build build/cmake -- --quiet
	@$(bin)/ctest --test-dir build/cmake --output-on-failure --no-tests=error

sanitize: build/cmake-sanitize/.configured
	@$(bin)/cmake --build build/cmake-sanitize -- --quiet
	@$(bin)/ctest --test-dir build/cmake-sanitize --output-on-failure --no-tests=error

clean:
	rm -rf .venv build demo *.egg-info .coverage fwdkern/_native*
	rm -f fwdkern/kernels

build/cmake-sanitize/.configured: configure_options := -DFWDKERN_SANITIZE=ON
build/cmake/.configured build/cmake-sanitize/.configured: $(VENV)/.cmake
	@mkdir -p $(@D)
	@$(bin)/cmake --log-level=WARNING -S . -B $(@D) -G Ninja -DCMAKE_MAKE_PROGRAM=$(bin)/ninja $(configure_options) >/dev/null
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is older than Python 3.11; give another: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.cmake: $(VENV)/.created
	@$(pip) "cmake>=3.24" ninja
	@touch $@

# torch is named in the same command, so that pip does not choose another release of it for the package. Without the
# native library the stamp is not written, so that the next run tries again.
$(VENV)/.installed: $(VENV)/.created $(native_sources)
	@echo "Installing $(TORCH) and fwdkern into $(VENV); the first time takes minutes."
	@$(pip) "$(TORCH)" --editable .
	@if [ -f fwdkern/_native_failure.txt ]; then \
		echo "No native library: $$(cat fwdkern/_native_failure.txt). fwdkern works, more slowly."; \
	else \
		touch $@; \
	fi

$(VENV)/.tools: $(VENV)/.installed pyproject.toml
	@echo "Installing the tools for tests and checks into $(VENV)."
	@$(pip) "$(TORCH)" "fwdkern[test,dev]"
	@touch $@
