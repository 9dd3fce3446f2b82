"""Checks of the built Kubernetes manifests that no schema can express.

Usage: check-manifests.py MANIFESTS.yaml (run by check-manifests.sh, from the repository's root)

- Every pod can run under the `restricted` pod security standard with a read-only root file system, has no API token,
  and is not sent the cluster's services as environment variables.
- Every container says what memory it may use, and which container port a probe or Service names exists.
- A ConfigMap or Secret key that a pod refers to exists (Secrets: in the list that `make k8s-secrets` creates).
- The settings' names in k8s/ and docker-compose.yml are names of .env.sample.
- docker-compose.yml gives every service the variables of .env.sample that it reads.
- Every alert of k8s/alerts.yaml is seen to fire in alerts-test.yaml, is held against a series that comes close to it, and has
  its section in docs/operations.md.
"""

import re
import sys
from pathlib import Path

import yaml

SECRETS = {
    "llm-bench-secrets": {"API_KEY", "API_KEY_PEPPER"}
    | {f"{server}_{whose}PASSWORD" for server in ("POSTGRES", "RABBITMQ") for whose in ("", "PRODUCER_", "CONSUMER_")}
}
# Read by the images of PostgreSQL and RabbitMQ and by the scripts mounted there, not by our programs.
FOREIGN_SETTINGS = {
    "PGDATA",
    "POSTGRES_INITDB_ARGS",
    "RABBITMQ_DEFAULT_USER",
    "RABBITMQ_DEFAULT_PASS",
    "PRODUCER_PASSWORD",
    "CONSUMER_PASSWORD",
}

# The variables of .env.sample that only one service reads; the others are read by each.
READ_BY_ONE = {
    "simulation-service": {
        "NUM_DATA_POINTS",
        "RANDOM_SEED",
        "SIMULATION_DISTRIBUTION",
        "SIMULATION_HTTP_ADDR",
        "SIMULATION_INTERVAL",
    },
    "benchmark-service": {
        "ANONYMOUS_READ",
        "API_KEY",
        "API_KEY_PEPPER",
        "HTTP_ADDR",
        "RANKING_SOURCE",
        "RATE_LIMIT_PER_SECOND",
        "RECONCILE_GRACE_SECONDS",
        "RECONCILE_INTERVAL_SECONDS",
        "RETENTION_DAYS",
    },
}
# Not for containers: there the servers are named in parts, logs go to standard error alone, and nothing is embedded.
NOT_IN_CONTAINERS = {"DATABASE_URL", "AMQP_URL", "LOG_FILE", "CONSOLE_LOGGING", "DATA_DIR"} | {
    # Of the load test, which no container runs.
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_BASE",
    "ANTHROPIC_API_KEY",
    "HF_TOKEN",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
}


def pods(resources):
    """Yields (name, pod spec) of every workload."""
    for resource in resources:
        template = resource.get("spec", {}).get("template")
        if template:
            yield f"{resource['kind']}/{resource['metadata']['name']}", template["spec"]


def pod_problems(pod):
    security = pod.get("securityContext", {})
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false (RABBITMQ_PORT=tcp://… would break the settings)"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false"
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
        yield "must run as a non-root user"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile must be RuntimeDefault"


def container_problems(container):
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation must be false"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem must be true"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "all capabilities must be dropped"
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}) or not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield "needs requests of cpu and memory, and a limit of memory"
    ports = {port["name"] for port in container.get("ports", [])}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind, {})
        if not probe and ports:
            yield f"needs a {kind}"
        for handler in ("httpGet", "tcpSocket"):
            if handler in probe and probe[handler]["port"] not in ports:
                yield f"{kind} asks the port {probe[handler]['port']}, which is none of {sorted(ports)}"


def reference_problems(container, keys_of):
    """`keys_of`: the keys of every ConfigMap and Secret, by (kind, name)."""
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        if ("ConfigMap", name) not in keys_of:
            yield f"envFrom refers to the ConfigMap {name}, which does not exist"
    for variable in container.get("env", []):
        for kind, reference in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            key = variable.get("valueFrom", {}).get(reference)
            if key and key["key"] not in keys_of.get((kind, key["name"]), ()):
                yield f"{variable['name']} refers to {key['key']} of the {kind} {key['name']}, which does not exist"


def settings_of_kubernetes(resources):
    for resource in resources:
        if resource["kind"] == "ConfigMap":
            yield from (key for key in resource["data"] if key.isupper())
    for _, pod in pods(resources):
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield from (variable["name"] for variable in container.get("env", []))


def environments_of_compose():
    """The names of the variables that docker-compose.yml gives to each service."""
    services = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]
    return {name: set(service.get("environment", {})) for name, service in services.items()}


def settings_missing_from_compose(environments, documented):
    """Yields (service, variable) where a service reads a variable that it is not given."""
    for service, own in READ_BY_ONE.items():
        of_others = set().union(*READ_BY_ONE.values()) - own
        read = documented - of_others - NOT_IN_CONTAINERS
        yield from ((service, name) for name in sorted(read - environments.get(service, set())))


def documented_settings():
    """The names in .env.sample, those that are commented out included."""
    return set(re.findall(r"^#?\s*([A-Z][A-Z0-9_]+)=", Path(".env.sample").read_text(), re.MULTILINE))


def alert_problems():
    rules = [rule for group in yaml.safe_load(Path("k8s/alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load(Path("scripts/alerts-test.yaml").read_text())["tests"]
    fired = {
        test["alertname"] for group in tests for test in group.get("alert_rule_test", []) if test["exp_alerts"]
    }
    quiet = " ".join(series["series"] for series in tests[-1]["input_series"])
    headings = re.findall(r"^### (\w+)$", Path("docs/operations.md").read_text(), re.MULTILINE)
    for rule in rules:
        name = rule["alert"]
        if name not in fired:
            yield f"{name} is never seen to fire in alerts-test.yaml"
        for metric in re.findall(r"llm_bench_\w+", rule["expr"]):
            if metric not in quiet:
                yield f"{name}: the last test of alerts-test.yaml has no series of {metric}"
        if rule["annotations"]["runbook_url"] != f"docs/operations.md#{name.lower()}" or name not in headings:
            yield f"{name} has no section in docs/operations.md, or its runbook_url is of another"


def problems(resources):
    keys_of = {("Secret", name): keys for name, keys in SECRETS.items()}
    for resource in resources:
        if resource["kind"] == "ConfigMap":
            keys_of["ConfigMap", resource["metadata"]["name"]] = resource["data"].keys()
    for name, pod in pods(resources):
        yield from (f"{name}: {problem}" for problem in pod_problems(pod))
        for container in pod.get("initContainers", []) + pod["containers"]:
            where = f"{name}, container {container['name']}"
            yield from (f"{where}: {problem}" for problem in container_problems(container))
            yield from (f"{where}: {problem}" for problem in reference_problems(container, keys_of))
    documented, compose = documented_settings(), environments_of_compose()
    for source, settings in (
        ("k8s/", set(settings_of_kubernetes(resources))),
        ("docker-compose.yml", set().union(*compose.values())),
    ):
        unknown = settings - documented - FOREIGN_SETTINGS
        yield from (f"{source}: {name} is not in .env.sample" for name in sorted(unknown))
    for service, name in settings_missing_from_compose(compose, documented):
        yield f"docker-compose.yml: {service} is not given {name}"
    yield from alert_problems()


def main():
    resources = [resource for resource in yaml.safe_load_all(Path(sys.argv[1]).read_text()) if resource]
    found = list(problems(resources))
    for problem in found:
        print(f"check-manifests: {problem}", file=sys.stderr)
    if not any(True for _ in pods(resources)):
        sys.exit("check-manifests: no workload in the manifests")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
