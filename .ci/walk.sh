#!/usr/bin/env bash
# Walks the README's way from a clone to an alert: its commands, in its order, as they stand there.
set -euo pipefail
cd "$(dirname "$0")/.."
section="$(sed -n '/^## From a clone/,/^## Configure/p' README.md)"
commands="$(sed -n '/^```sh$/,/^```$/p' <<<"$section" | sed '/^```/d')"
[[ $(grep -c . <<<"$commands") -gt 10 ]] || { echo "the README has no way to walk" >&2; exit 1; }
rm -rf /tmp/koodrive-prometheus /tmp/koodrive.yml
timeout 900 bash -euo pipefail <<<"$commands"
rm -rf /tmp/koodrive-prometheus /tmp/koodrive.yml
echo "the README's way leads to a firing alert"
