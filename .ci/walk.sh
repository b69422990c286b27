#!/usr/bin/env bash
# Walks docs/quick-start.md from a clone to an alert: its commands, in its order, as they stand there.
#
#   .ci/walk.sh [PROGRAM]   with a program, that one is walked with instead of one that `cargo build --release` makes
set -euo pipefail
built="$(mktemp -d)"
trap 'rm -rf "$built"' EXIT
if (($#)); then
    mkdir "$built/release"
    ln -s "$(realpath "$1")" "$built/release/koodrive-exporter"
    export CARGO_TARGET_DIR="$built"
    cargo() { [[ "$*" == "build --release" ]]; }
    export -f cargo
fi
cd "$(dirname "$0")/.."
files=(/tmp/koodrive-{prometheus,alertmanager,pager,alertmanager.yml} /tmp/koodrive.yml)
commands="$(.ci/commands docs/quick-start.md)"
[[ $(grep -c . <<<"$commands") -gt 10 ]] || { echo "docs/quick-start.md has no way to walk" >&2; exit 1; }
rm -rf "${files[@]}"
for port in 9090 9093 10710 10711 10712; do
    ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "port $port is taken" >&2; exit 1; }
done
timeout 900 bash -euo pipefail <<<"trap 'kill \$(jobs -p) 2>/dev/null || true' EXIT
command -v alertmanager >/dev/null || alertmanager() { exec prometheus-alertmanager \"\$@\"; }
$commands"
rm -rf "${files[@]}"
echo "docs/quick-start.md leads to a notification"
