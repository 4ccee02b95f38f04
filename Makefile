# Every target sets up .venv by itself; all that is needed is Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: install demo serve trips docs test test-all test-browser test-milvus test-ray fuzz-serve lint bench soak core clean

install: $(READY)  ## everything into .venv; activate it with: source .venv/bin/activate

demo: $(READY)  ## simulate, train, rank, evaluate: runs/demo/report.html
	$(BIN)/vreid demo --out runs/demo

PORT ?= 8000
serve: $(READY)  ## a search page over a simulated city, http://localhost:8000; PORT=8001 for another port
	test -e runs/serve/city || $(BIN)/vreid simulate runs/serve/city --layout videos --preset demo --seed 1
	$(BIN)/vreid ingest runs/serve/city --store runs/serve/site
	$(BIN)/vreid serve runs/serve/site --port $(PORT) --open

trips: $(READY)  ## simulate a day of traffic, link it into trips, evaluate them: runs/trips/result/trips.html
	$(BIN)/vreid simulate runs/trips/city --layout trips --preset demo
	$(BIN)/vreid ingest runs/trips/city --store runs/trips/store
	$(BIN)/vreid trips runs/trips/store --out runs/trips/result --truth runs/trips/city/truth.csv

test: $(READY) lint  ## lint, types and the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: test  ## and a dry run on made-up folders of the real data sets' size, two minutes more
	OMP_NUM_THREADS=1 VREID_TRUE_SIZE=1 $(BIN)/python -m pytest tests/reproduce/test_dry_run.py

test-browser: $(READY)  ## the search pages in the Chromium of this computer, in an environment of their own
	test -x .venv-browser/bin/python || $(BIN)/uv venv -q --python $(BIN)/python .venv-browser
	$(BIN)/uv pip install -q --python .venv-browser/bin/python -c constraints.txt -e '.[serve]' pytest hypothesis httpx2 playwright axe-playwright-python
	OMP_NUM_THREADS=1 .venv-browser/bin/python -m pytest -rs tests/serve/test_browser.py

MILVUS_PACKAGES := "pymilvus==3.0.2" "setuptools<81" pytest hypothesis
test-milvus: $(READY)  ## the store's tests on a Milvus server of its own and on Milvus Lite, in throw-away environments
	$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-milvus/server
	$(BIN)/uv pip install -q --python .venv-milvus/server/bin/python -r pyproject.toml $(MILVUS_PACKAGES) "milvus==2.3.5"
	$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-milvus/lite
	$(BIN)/uv pip install -q --python .venv-milvus/lite/bin/python -r pyproject.toml $(MILVUS_PACKAGES) "milvus-lite>=3.2,<3.3"
	for kind in lite server; do echo "== $$kind"; OMP_NUM_THREADS=1 .venv-milvus/$$kind/bin/python -m pytest -rs \
		tests/store/test_conformance.py tests/store/test_milvus_engine.py -k milvus || exit 1; done

test-ray: $(READY)  ## extraction on a local Ray cluster of two processes and from a local S3 server, in an environment of its own
	test -x .venv-ray/bin/python || $(BIN)/uv venv -q --python $(BIN)/python .venv-ray
	$(BIN)/uv pip install -q --python .venv-ray/bin/python -c constraints.txt -e '.[train,model,ray]' \
		s3fs "moto[server]" pytest hypothesis
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest -rs tests/inference/test_ray_pool.py tests/test_object_storage.py

COUNT ?= 100000
SECONDS ?= 3600
fuzz-serve: $(READY)  ## COUNT=100000 odd requests, SECONDS=3600 at most, to a search service of its own; schemathesis beside
	test -x .venv-schemathesis/bin/schemathesis || $(BIN)/uv venv -q --python $(BIN)/python .venv-schemathesis
	$(BIN)/uv pip install -q --python .venv-schemathesis/bin/python "schemathesis==4.32.5"
	rm -rf runs/fuzz-serve
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m soak.service --count $(COUNT) --seconds $(SECONDS) --clients 6 \
		--schemathesis $(CURDIR)/.venv-schemathesis/bin/schemathesis --folder runs/fuzz-serve

docs: $(READY)  ## the documentation site, site/index.html: no warning, every link checked
	OMP_NUM_THREADS=1 $(BIN)/python docs/build_site.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy studies

bench: $(READY)  ## every benchmark, each printing its ratios
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

MINUTES ?= 10
soak: $(READY)  ## kills, full disks, damaged files and fuzzed input for MINUTES=10; counts and problems are printed
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES)

core: $(READY)  ## build the optional compiled core in place
	$(BIN)/python setup.py build_ext --inplace

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vreid needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[all]' --group dev --group docs
	touch $@

clean:
	rm -rf .venv .venv-browser .venv-milvus .venv-ray .venv-schemathesis build runs site src/*.egg-info
