#!/usr/bin/env bash
# Checks the deployment files. Builds k8s/ with kustomize and validates the result strictly (an unknown field fails) against the
# oldest and the newest supported Kubernetes; check-manifests.py checks what the schema cannot express. promtool checks the
# alerts. docker-compose.yml and the CI workflow are validated against their published schemas.
#
# Needs kubectl (or kustomize), Python's venv and promtool. As root on Debian it installs what is missing; otherwise it
# says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

oldest_kubernetes=1.29.0
newest_kubernetes=1.37.0
venv=.tools/check-manifests
promtool=.tools/promtool
. scripts/pypi-tools.sh

build_manifests() {
    if command -v kubectl >/dev/null; then
        kubectl kustomize k8s
    else
        kustomize build k8s
    fi
}

# promtool from Debian's package, without starting the package's server.
install_promtool() {
    [ -x "$promtool" ] && return
    if command -v promtool >/dev/null; then
        promtool=promtool
        return
    fi
    command -v apt-get >/dev/null || {
        echo "check-manifests: promtool is missing; it comes with Prometheus" >&2
        exit 1
    }
    echo "check-manifests: unpacking promtool" >&2
    local unpacked
    unpacked=$(mktemp -d)
    if ! (cd "$unpacked" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } \
        && dpkg-deb --extract prometheus_*.deb .) >"$unpacked/log" 2>&1; then
        tail -n 20 "$unpacked/log" >&2
        exit 1
    fi
    install -D "$unpacked/usr/bin/promtool" "$promtool"
    rm -rf "$unpacked"
}

# check_alerts   Prints nothing unless a rule is wrong.
check_alerts() {
    local report
    report=$("$promtool" check rules k8s/alerts.yaml 2>&1 && "$promtool" test rules scripts/alerts-test.yaml 2>&1) || {
        echo "$report" >&2
        exit 1
    }
}

# check_schema SCHEMA FILE...   Prints nothing unless a file is wrong.
check_schema() {
    local report
    report=$("$venv/bin/check-jsonschema" --builtin-schema "$@" 2>&1) || {
        echo "$report" >&2
        exit 1
    }
}

command -v kubectl >/dev/null || command -v kustomize >/dev/null || apt_install kubernetes-client kubectl
pypi_install scripts/check-manifests.txt "$venv"
install_promtool

manifests=$(mktemp --suffix=.yaml)
trap 'rm -f "$manifests"' EXIT
build_manifests >"$manifests"
for version in "$oldest_kubernetes" "$newest_kubernetes"; do
    "$venv/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$version" "$manifests"
done
"$venv/bin/python" scripts/check-manifests.py "$manifests"
check_alerts
check_schema vendor.compose-spec docker-compose.yml
check_schema vendor.github-workflows .github/workflows/*.yml

echo "manifests ok: $(grep -c '^kind:' "$manifests") resources of k8s/ (strict, Kubernetes $oldest_kubernetes and" \
    "$newest_kubernetes), the alerts, docker-compose.yml, .github/workflows"
