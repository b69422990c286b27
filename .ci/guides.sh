#!/usr/bin/env bash
# Walks guides: the commands of each, in their order, as they stand there, in an empty folder and a network of its own.
#
# Usage: guides.sh GUIDE...     # koodrive-exporter is in PATH
set -euo pipefail
if [[ ${1:-} != --inside ]]; then
    for guide; do
        folder="$(mktemp -d)"
        timeout 120 unshare --net --map-root-user bash "$0" --inside "$(realpath "$guide")" "$folder" >"$folder.log" 2>&1 ||
            { cat "$folder.log"; echo "$guide does not lead to its end" >&2; exit 1; }
        rm -r "$folder" "$folder.log"
        echo "$guide leads to its end"
    done
    exit
fi
commands="$("$(dirname "$0")/commands" "$2")"
[[ $(grep -c . <<<"$commands") -gt 2 ]] || { echo "$2 has no commands" >&2; exit 1; }
ip link set lo up
cd "$3"
exec bash -euxo pipefail <<<"trap 'kill \$(jobs -p) 2>/dev/null || true' EXIT
$commands"
