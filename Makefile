# The tasks of this project. `make` alone lists them.

CARGO ?= cargo
COMPOSE ?= docker compose
KUBECTL ?= kubectl
NAMESPACE := llm-bench

.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
# Cargo's own parallelism fills the cores; two of these tasks at once would only wait for each other.
.NOTPARALLEL:

##@ Run

.PHONY: run
run: ## Both services in one process, with an embedded database: http://127.0.0.1:8000
	$(CARGO) run --release --locked --package llm-bench -- up

.PHONY: services
services: install-services ## Private PostgreSQL and RabbitMQ for development, until Ctrl+C
	$(CARGO) run --locked --package test-servers --bin services

.PHONY: migrate
migrate: ## Bring the database's schema up to date
	$(CARGO) run --release --locked --package llm-bench -- migrate

.PHONY: start-simulation
start-simulation: ## The simulation service (settings: environment and .env)
	$(CARGO) run --release --locked --package simulation-service

.PHONY: start-benchmark
start-benchmark: ## The benchmark service (settings: environment and .env)
	$(CARGO) run --release --locked --package benchmark-service

.PHONY: bench
bench: install-services ## Measure the pipeline against real servers, and the load test's client against a naive one
	$(CARGO) build --release --locked --package simulation-service --package benchmark-service
	$(CARGO) run --release --locked --package pipeline-bench
	$(CARGO) run --release --locked --package load-bench

##@ Check

# Cheap checks first. Clippy and the tests compile the same crates differently, so neither saves the other's work.
.PHONY: ci
ci: fmt manifests deny clippy test faults-quick api-contract tracking-contract docs ## All that CI runs, in the same way
	@echo "ci: all checks passed"

.PHONY: fmt
fmt: ## Is the code formatted?
	$(CARGO) fmt --all -- --check

.PHONY: clippy
clippy: ## Lints, as errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --manifest-path tests/fuzz/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}" --locked -- -D warnings

.PHONY: test
test: test-programs ## All tests, those with real PostgreSQL and RabbitMQ included; TESTS='--package outbox' for some
	"$${CARGO_TARGET_DIR:-target}/debug/run-tests" $(TESTS)

.PHONY: test-stress
test-stress: test-programs ## The tests three times, on cores that are busy otherwise (see docs/testing.md; not part of ci)
	scripts/stress-tests.sh $(TESTS)

# The programs and the tests of the whole workspace at once, so that the tests, the fault suite and the API's check use
# the same ones: with their failpoints, and with one set of features of every dependency.
.PHONY: test-programs
test-programs: install-services
	$(CARGO) build --workspace --bins --tests --locked

.PHONY: fault-programs
fault-programs: test-programs
	@scripts/install-fault-tools.sh

# Faults that mount a file system or make a network namespace need root, and are not run without: FAULTS_AS=sudo. FAULTS
# takes the program's options too: --require-all fails on what was not run.
.PHONY: faults
faults: fault-programs ## Every fault there is, against real servers (about half an hour); FAULTS=7,12-14 for some
	$(FAULTS_AS) $${CARGO_TARGET_DIR:-target}/debug/faults $(FAULTS)

.PHONY: faults-quick
faults-quick: fault-programs ## The part of it that fits into ten minutes
	$(FAULTS_AS) $${CARGO_TARGET_DIR:-target}/debug/faults --quick $(FAULTS)

.PHONY: api-contract
api-contract: ## The running service against its OpenAPI document (schemathesis, about a minute)
	scripts/check-api.sh

.PHONY: tracking-contract
tracking-contract: ## The load test's experiment tracking against MLflow's own server
	scripts/check-tracking.sh

.PHONY: real-engine
real-engine: ## A load test of llama.cpp's own server, counts held against the server's (not part of ci: 200 MB to install)
	scripts/real-engine.sh

.PHONY: docs
docs: ## The API documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

.PHONY: deny
deny: ## Licences, sources and security advisories of the dependencies
	scripts/deny.sh

.PHONY: manifests
manifests: ## The Kubernetes manifests, the compose file and the CI workflow
	scripts/check-manifests.sh

##@ Deploy

.PHONY: up
up: .env ## PostgreSQL, RabbitMQ and both services in containers: http://127.0.0.1:8000
	$(COMPOSE) up --build --detach --wait

.PHONY: down
down: ## Stop the containers; the data stays (all of it goes with `docker compose down --volumes`)
	$(COMPOSE) down

.PHONY: k8s-apply
k8s-apply: k8s-secrets ## Deploy to the cluster of the current kubectl context
	$(KUBECTL) --namespace $(NAMESPACE) delete job llm-bench-migrate --ignore-not-found
	$(KUBECTL) apply --kustomize k8s

.PHONY: k8s-secrets
k8s-secrets: ## Draw the cluster's passwords and keys, where it has none yet
	@$(KUBECTL) apply --filename k8s/namespace.yaml
	@if $(KUBECTL) --namespace $(NAMESPACE) get secret llm-bench-secrets >/dev/null 2>&1; then \
		echo "secret/llm-bench-secrets exists, kept"; \
	else \
		secrets=$$(scripts/draw-secrets.sh); \
		printf '%s\n' "$$secrets" | $(KUBECTL) --namespace $(NAMESPACE) \
			create secret generic llm-bench-secrets --from-env-file=/dev/stdin; \
	fi

# Settings of this machine, with passwords of its own. Never overwritten: the databases' volumes keep the passwords.
.env:
	@umask 077; { \
		grep -vE '^(POSTGRES_PASSWORD|RABBITMQ_PASSWORD|API_KEY|API_KEY_PEPPER)=' .env.sample; \
		echo; echo "# Drawn by \`make up\`."; scripts/draw-secrets.sh | grep -vE '_(PRODUCER|CONSUMER)_'; \
	} >$@.new
	@mv $@.new $@
	@echo "wrote .env with newly drawn passwords and keys"

##@ Help

.PHONY: install-services
install-services:
	@scripts/install-services.sh

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
