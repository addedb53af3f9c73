PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := accsim-demo
COVERED := $(CURDIR)/.coverage-cache

.PHONY: demo test check coverage mutation bench exactness accuracy guarantee published-bounds search-power model-files model-speed silicon rtl clean

demo: $(READY)  ## train digits to fit a narrow register, prove it, simulate it
	$(BIN)/accsim demo --out $(DEMO)

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

silicon: $(READY)  ## accsim beside this processor, PyTorch, an emulated ARM, FPGA compilers' types; what is not there is named
	$(BIN)/python -m pytest tests/silicon

check: $(READY)  ## lint, format, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# With an empty cache of compiled code what emits it runs, too.
coverage: $(READY)  ## branches of accsim and verification that tests take (kernels as Python; six minutes)
	rm -rf .coverage $(COVERED)
	NUMBA_CACHE_DIR=$(COVERED) $(BIN)/coverage run -m pytest -q -m "not unmeasured" \
		tests/accsim tests/verification tests/test_bad_input.py accsim verification
	$(BIN)/coverage report

mutation: $(READY)  ## small changes to the code that decides: do tests notice? (half an hour; goes on where it stopped)
	$(BIN)/python benchmarks/mutation.py

bench: $(READY)  ## throughput beside numpy and torch, in one run (bench.json, bench.png)
	$(BIN)/python benchmarks/throughput.py --json bench.json --plot bench.png

exactness: $(READY)  ## ten million random cases through every kernel, two million through datapaths (ten minutes)
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/datapath_exactness.py

accuracy: $(READY)  ## every method at every width, five seeds (40 minutes; goes on where it stopped)
	$(BIN)/python benchmarks/accuracy.py --out accuracy

guarantee: $(READY)  ## ten thousand quantized layers decided three ways, and broken twins (ten minutes)
	$(BIN)/python benchmarks/guarantee.py

published-bounds: $(READY)  ## published bounds beside the exact decision on ten million layers (five minutes)
	$(BIN)/python benchmarks/published_bounds.py

search-power: $(READY)  ## every seeded bug searched with 20 seeds, and tight instances (half an hour)
	$(BIN)/python benchmarks/search_power.py

model-files: $(READY)  ## a hundred thousand damaged model files, loaded and run in 1 GiB (a quarter of an hour)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz_models.py --run

model-speed: $(READY)  ## a whole ResNet-18 in 14-bit registers beside onnxruntime's floats (a minute)
	$(BIN)/python benchmarks/model_speed.py

rtl: $(READY)  ## a million steps of the example device in Icarus Verilog and Verilator, and ten wrong devices (five minutes)
	$(BIN)/python benchmarks/rtl_campaign.py

# Built anew only when the pins change; torch goes first, alone, so that the pin chooses it. In the mode
# "compat" the packages are found from everywhere, also beside a clone that is called accsim.
$(READY): constraints.txt pyproject.toml
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]" --config-settings editable_mode=compat
	touch $@

clean:  ## remove what make made
	rm -rf $(VENV) $(DEMO) $(COVERED) .coverage .mutation accuracy bench.json bench.png
