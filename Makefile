# make help lists the targets. All honour CARGO_TARGET_DIR and work without a terminal.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/release
# All programs in one go: cargo unites features over what it is asked for, so building one alone compiles its crates again.
BUILD := cargo build --release --locked -p dc-encoder -p edge-agent -p tests --bins
BENCH := cargo bench --locked -p dc-encoder -p edge-agent -p tests --bench
quote = '$(subst ','\'',$(1))'
.DEFAULT_GOAL := help
.PHONY: help packages-needed demo demo-model eval test lint size soak parity bench-encoder bench-train bench-shapes bench-heads bench-swap bench-network bench-load bench-grpc soak-load bench-patches check-metrics check-tensorboard cuda-kernels fuzz agent packages check-reproducible test-boxes bench-archive bench-suggest check-archive test-label-studio check-label-page check-s3 bench-first-head

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages-needed:
	@sh cross/debian-packages.sh

demo: packages-needed ## an encoder server and an agent over QUIC on loopback, live answers; SOURCE=URI for your own footage
	$(BUILD)
	@SOURCE='$(subst ','\'',$(SOURCE))' $(BIN)/demo

# Twenty-four plazas, none of them the one that make demo watches (seed 7); the last ones are held out.
DEMO_SEEDS := $(shell seq 101 124)
DEMO_OUT = $(or $(OUT),demo-model-out)
demo-model: packages-needed ## pretrains dc-encoder/models/demo again, from footage of synthetic plazas; STEPS=1000 OUT=DIR
	$(BUILD)
	@for seed in $(DEMO_SEEDS); do \
		$(BIN)/plaza --out $(call quote,$(DEMO_OUT))/footage/$$seed --seed $$seed --frames 50 >/dev/null || exit 1; done
	@cd $(call quote,$(DEMO_OUT))/footage && find . -name '*.jpg' | LC_ALL=C sort > frames.txt
	$(BIN)/dc-encoder pretrain --frames $(call quote,$(DEMO_OUT))/footage/frames.txt --preset demo --seed 1 \
		--steps $(or $(STEPS),1000) --drop-decoder --out $(call quote,$(DEMO_OUT))/pretrained
	$(BIN)/dc-encoder model calibrate --model $(call quote,$(DEMO_OUT))/pretrained \
		--frames $(call quote,$(DEMO_OUT))/footage/frames.txt --precision f16 --out $(call quote,$(DEMO_OUT))/model

eval: packages-needed ## what few labels are worth on DATA=DIR (labels, split.toml, frames); BUDGET=30m PRESET=demo, or MODEL=DIR; OUT=DIR
	$(BUILD)
	@$(BIN)/dc-encoder evaluate --data $(call quote,$(DATA)) --out $(call quote,$(or $(OUT),eval-out)) \
		$(if $(MODEL),--model $(call quote,$(MODEL))) \
		--budget $(call quote,$(or $(BUDGET),30m)) --preset $(call quote,$(or $(PRESET),demo))

test: packages-needed ## everything that runs in minutes: unit, golden, whole-system tests
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --workspace --locked; \
	else \
		set -x; cargo test --workspace --locked; \
	fi

lint: packages-needed ## formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

size: packages-needed ## the agent's stripped size, dependencies, idle memory, work a frame and time to answer, against their goals
	cargo build --profile agent --locked -p edge-agent
	$(BUILD)
	@$(BIN)/agent-size --agent $(CARGO_TARGET_DIR)/agent/edge-agent

soak: packages-needed ## five minutes of live HLS with the stream server stopped and started: nothing lost, flat memory
	$(BUILD)
	@$(BIN)/soak

parity: packages-needed ## every backend and precision of this machine against the reference, flipped answers of heads too; MODEL=DIR
	@MODEL=$(call quote,$(if $(MODEL),$(abspath $(MODEL)))) $(BENCH) parity

bench-encoder: packages-needed ## frames a second beside ONNX Runtime's and PyTorch's, Nyström's time and error; PYTHON=, else .venv is made
	@PYTHON=$$(sh tests/peers/setup.sh torch onnxruntime onnx onnxscript) && export PYTHON && \
		$(BENCH) encoder

bench-train: packages-needed ## training steps a second beside PyTorch's; PYTHON=one with torch, else .venv is made
	@PYTHON=$$(sh tests/peers/setup.sh torch) && export PYTHON && \
		$(BENCH) train

# Steps so that each shape's training takes as many operations as the first one's: 3.44, 12.3, 15.0 and 87.3 GFLOP a frame.
SHAPES := 576x960-p48:141 576x960-p24:39 1056x1920-p48:32 1080x1920-p24:6
bench-shapes: packages-needed ## patch size against frame size on DATA=DIR: one small encoder, as many operations of training each
	$(BUILD)
	@for shape in $(SHAPES); do echo "== $$shape steps"; \
		$(BIN)/dc-encoder evaluate --data $(call quote,$(DATA)) --preset dc-encoder/benches/shapes/$${shape%:*}.json \
			--steps $${shape#*:} --labels 100,300 --out $(call quote,$(or $(OUT),eval-out))/$${shape%:*} || exit 1; done

bench-heads: packages-needed ## 1 to 1000 heads on one embedding: time and memory a head, time to load them
	@$(BENCH) heads

bench-patches: packages-needed ## bytes, work and head error on DATA=DIR when only some patches are sent; MODEL=DIR, POLICIES="changed(4,30) …"
	@DATA=$(call quote,$(abspath $(DATA))) MODEL=$(call quote,$(if $(MODEL),$(abspath $(MODEL)))) POLICIES=$(call quote,$(POLICIES)) \
		$(BENCH) patches

bench-swap: packages-needed ## from publishing a head to its first answer, and what swaps cost frames; SWAPS=10000
	$(BUILD)
	@SWAPS=$(or $(SWAPS),10000) $(BENCH) swap

bench-network: packages-needed ## QUIC against TCP over a link with a round trip and losses, half an hour; SECONDS=15 a cell, ONLY=goal or ONLY=20ms,1%, SEED=1
	@SECONDS=$(or $(SECONDS),15) ONLY=$(call quote,$(ONLY)) SEED=$(call quote,$(SEED)) $(BENCH) network

bench-load: packages-needed ## 1 to 1000 cameras on one server: latency, memory, throughput, overhead; ONLY=table,memory SECONDS=20
	$(BUILD)
	@ONLY=$(call quote,$(ONLY)) SECONDS=$(call quote,$(SECONDS)) $(BENCH) load

bench-grpc: packages-needed ## seed-80m beside the same model behind a gRPC server in Python; PYTHON=, else .venv is made; SECONDS=15
	$(BUILD)
	@PYTHON=$$(sh tests/peers/setup.sh torch onnxruntime onnx onnxscript grpcio pillow) && export PYTHON && \
		ONLY=grpc SECONDS=$(call quote,$(SECONDS)) $(BENCH) load

soak-load: packages-needed ## ten minutes of more than the server can do, cameras come and go: flat memory; SECONDS=600
	$(BUILD)
	@ONLY=soak SECONDS=$(call quote,$(SECONDS)) $(BENCH) load

check-metrics: packages-needed ## both programs' metrics, through Prometheus' linter; PROMTOOL=, else Debian's is unpacked into .promtool
	@PROMTOOL=$$(PROMTOOL=$(call quote,$(PROMTOOL)) sh cross/promtool.sh) && export PROMTOOL && \
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked --run-ignored only -E 'test(promtool)'; \
	else \
		cargo test --workspace --locked -- --ignored promtool; \
	fi

bench-archive: packages-needed ## finding in a million frames, suggesting among 100,000, frames stored a second beside serving; DIR= on which disk
	$(BUILD)
	@DIR=$(call quote,$(or $(DIR),$(CARGO_TARGET_DIR))) $(BENCH) archive

bench-first-head: packages-needed ## docs/camera-to-head.md typed in on a stream of its own: commands and minutes to a head
	$(BUILD)
	@python3 tests/peers/first_head.py $(BIN)

SUGGESTED = $(CARGO_TARGET_DIR)/bench-suggest
bench-suggest: packages-needed ## 30 suggested labels beside 30 random ones on DATA=DIR; MODEL=DIR, KIND=auto
	$(BUILD)
	@mkdir -p $(call quote,$(SUGGESTED))
	@$(BIN)/dc-encoder embed --model $(call quote,$(or $(MODEL),dc-encoder/models/demo)) --tokens \
		--frames $(call quote,$(firstword $(wildcard $(DATA)/labels.jsonl $(DATA)/labels.csv))) \
		--out $(call quote,$(SUGGESTED))/$(notdir $(DATA)).safetensors
	@DATA=$(call quote,$(abspath $(DATA))) EMBEDDINGS=$(call quote,$(SUGGESTED))/$(notdir $(DATA)).safetensors \
		$(if $(KIND),KIND=$(call quote,$(KIND))) $(BENCH) suggest

check-archive: packages-needed ## the archive's processes killed at 200 random moments; its table read by DuckDB; PYTHON=one with it; KILLS=200
	cargo build --locked --workspace --bins
	@KILLS=$(or $(KILLS),200) cargo test --locked --workspace --test it -- --exact --nocapture \
		archive_kill::killed_at_any_moment_nothing_is_lost_or_unlinked
	@$$(PYTHON=$(call quote,$(PYTHON)) sh tests/peers/setup.sh duckdb) tests/peers/parquet.py $(CARGO_TARGET_DIR)/debug/dc-encoder

test-label-studio: packages-needed ## batches through a real Label Studio (1 GB from PyPI into .venv-label-studio); PYTHON=one with it
	cargo build --locked --workspace --bins
	@$$(VENV=.venv-label-studio PYTHON=$(call quote,$(PYTHON)) sh tests/peers/setup.sh label-studio) \
		tests/peers/label_studio.py $(CARGO_TARGET_DIR)/debug/dc-encoder

check-label-page: packages-needed ## the built-in page in a browser, by keyboard and mouse; CHROMEDRIVER=, else Debian's is installed
	@[ -n $(call quote,$(CHROMEDRIVER)) ] || sh cross/debian-packages.sh chromium chromium-driver
	cargo build --locked --workspace --bins
	@CHROMEDRIVER=$(call quote,$(CHROMEDRIVER)) python3 tests/peers/label_page.py $(CARGO_TARGET_DIR)/debug/dc-encoder

check-s3: packages-needed ## the archive's frames in a bucket, served by moto: every command, outages, kills; PYTHON=one with it; KILLS=20
	cargo build --locked --workspace --bins
	@KILLS=$(KILLS) $$(PYTHON=$(call quote,$(PYTHON)) sh tests/peers/setup.sh 'moto[server]') tests/peers/s3.py $(CARGO_TARGET_DIR)/debug/dc-encoder

CHECKED = $(CARGO_TARGET_DIR)/check-tensorboard
check-tensorboard: packages-needed ## a short pretraining run's event files, read by TensorBoard and its server; PYTHON=one with it, else .venv is made
	$(BUILD)
	@rm -rf $(call quote,$(CHECKED))
	@$(BIN)/plaza --out $(call quote,$(CHECKED)) --frames 40 >/dev/null
	@$(BIN)/dc-encoder pretrain --frames $(call quote,$(CHECKED))/frames --preset demo --batch 4 --steps 40 --out $(call quote,$(CHECKED))/model
	@$$(PYTHON=$(call quote,$(PYTHON)) sh tests/peers/setup.sh tensorboard) tests/peers/event_files.py $(call quote,$(CHECKED))/model/pretrain

cuda-kernels: packages-needed ## the CUDA path's kernels through NVIDIA's compiler; needs no card; NVRTC=DIR, else .nvrtc is made
	@NVRTC=$$(sh cross/nvrtc.sh) && export LD_LIBRARY_PATH="$$NVRTC$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" && \
		cargo bench --locked --workspace --profile dev --bench cuda-kernels

agent: packages-needed ## edge-agent for a camera box: TARGET=x86_64, aarch64 or armv7
	@sh cross/build.sh edge-agent $(call quote,$(or $(TARGET),x86_64))

# What makes virtual machines: modules and the first files, disks, emulators, a Debian with systemd (owners of its files).
VM_NEEDS = kmod cpio e2fsprogs qemu-system-x86 qemu-system-arm mmdebstrap fakeroot lintian
test-boxes: packages-needed ## packages on virtual camera boxes of three architectures; ONLY=lifetime, systemd or unplug; CYCLES=1000
	@sh cross/debian-packages.sh $(VM_NEEDS)
	@sh cross/packages.sh
	@sh tests/boxes/images.sh
	@export BOXES=$(call quote,$(CARGO_TARGET_DIR)/boxes/vm) CYCLES=$(call quote,$(CYCLES)); \
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked --run-ignored only --no-fail-fast --success-output final -E 'test(boxes::$(ONLY))'; \
	else \
		cargo test --workspace --locked -- --ignored --nocapture boxes::$(ONLY); \
	fi

packages: packages-needed ## .deb and .tar.gz of both programs, reproducible, with lintian and SHA-256 sums; TARGET=one architecture
	@sh cross/packages.sh $(TARGET)

check-reproducible: packages-needed ## packages built twice, in two folders, byte for byte the same; TARGET=one architecture
	@sh cross/reproduce.sh $(TARGET)

fuzz: ## one minute of fuzzing the wire decoder (needs cargo-fuzz)
	cd protocol && mkdir -p fuzz/corpus/decode && \
		RUSTC_BOOTSTRAP=1 cargo fuzz run decode fuzz/corpus/decode fuzz/seeds -- -max_total_time=60 -malloc_limit_mb=1
