# The same workspace, features and profile everywhere, so that nothing is compiled twice.
ALL := --workspace --all-features
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON := .venv/bin/python

.PHONY: demo test check prepare lint docs bench bench-duckdb bench-postgres bench-daemon bench-page bench-snapshots bench-memory bench-dictdb soak fmt clean

demo: ## A live SQLite database: backed up, backed up again, damaged, restored, proven equal
	cargo build -q -p copal-cli
	COPAL=$(TARGET)/debug/copal sh tools/demo.sh

test: prepare ## All tests
	cargo build $(ALL) --all-targets --locked
	python3 tools/run_tests.py $(PYTHON) -m unittest discover -s tools/tests -- cargo test --locked --no-fail-fast $(ALL) -- python/run_tests.sh -- web/tests/run.sh

check: lint docs test ## What CI runs

prepare:
	tools/prepare.sh

lint:
	cargo fmt --all --check
	python3 tools/check_layers.py
	cargo fetch --locked
	python3 tools/check_licences.py
	cargo clippy $(ALL) --all-targets --locked -- -D warnings
	cargo check -p copal --no-default-features --features sqlite --locked # One engine alone compiles, too

docs: ## The API's documentation has no warnings; docs/cli.md is what the program says
	RUSTDOCFLAGS="-D warnings" cargo doc $(ALL) --no-deps --locked
	cargo build $(ALL) --all-targets --locked
	$(TARGET)/debug/copal generate-docs | diff -u docs/cli.md - || { echo "docs/cli.md is stale: make docs/cli.md"; exit 1; }

.PHONY: docs/pictures
docs/pictures: prepare ## Pictures of the page, made anew
	cargo build $(ALL) --all-targets --locked
	COPAL=$(TARGET)/debug/copal node web/tests/pictures.mjs

.PHONY: docs/cli.md
docs/cli.md:
	cargo build $(ALL) --all-targets
	$(TARGET)/debug/copal generate-docs > $@

bench: prepare ## Copal beside zstd, restic and cp; BENCH="--large --output docs/benchmarks.md" for all of it
	cargo build --release $(ALL) --bins --examples
	$(PYTHON) bench/run.py --bin $(TARGET)/release $(BENCH)

bench-duckdb: prepare ## A DuckDB in use, beside COPY FROM DATABASE and EXPORT DATABASE
	cargo build --release $(ALL) --bins
	$(PYTHON) bench/run_duckdb.py --bin $(TARGET)/release $(BENCH)

bench-postgres: prepare ## A PostgreSQL of 1.5 GB, beside pg_dump and pg_restore; BENCH="--rows 10" for its memory at ten times the rows
	cargo build --release $(ALL) --bins
	$(PYTHON) bench/run_postgres.py --bin $(TARGET)/release $(BENCH)

bench-daemon: ## copal serve with 2,000 databases: start, idle, a burst of runs, requests (needs ab)
	cargo build --release $(ALL) --bins
	python3 bench/run_daemon.py --bin $(TARGET)/release $(BENCH)

bench-page: prepare ## The page with 2,000 databases and 200,000 recorded backups: first paint, requests, bytes, memory
	cargo build --release $(ALL) --bins
	python3 bench/run_page.py --bin $(TARGET)/release $(BENCH)

bench-snapshots: prepare ## Snapshots of PostgreSQL, SQLite and MariaDB beside Stellar, DSLR, cp and mysqldump (root: XFS too)
	cargo build --release $(ALL) --bins
	$(PYTHON) bench/run_snapshots.py --bin $(TARGET)/release $(BENCH)

bench-memory: ## A store of 1,000,000 rows in memory into an encrypted repository
	cargo build --release $(ALL) --lib --example memory_speed
	python3 bench/run_memory.py --bin $(TARGET)/release $(BENCH)

bench-dictdb: prepare ## BackupManager beside DictDB's own (Python 3.13)
	cargo build --release $(ALL) --lib
	$(PYTHON) tools/wheel.py --target $(TARGET)/release --develop bench/work/python
	PYTHONPATH=bench/work/python .venv/python-3.13/bin/python bench/run_dictdb.py $(BENCH)

soak: prepare ## The tests under fire, twenty times as long
	COPAL_TEST_ROUNDS=20 cargo test -p copal-cli --test endurance
	COPAL_TEST_ROUNDS=20 cargo test -p copal-duckdb --test hammer
	COPAL_TEST_ROUNDS=20 cargo test -p copal-postgres --all-features --test under_load
	COPAL_SCHEDULES=20000 cargo test -p copal-repository --test repository interleavings

fmt:
	cargo fmt --all

clean:
	cargo clean
	rm -rf .venv bench/work web/tests/node_modules
