#!/usr/bin/env bash
# Unpacks today's Prometheus, promtool, Alertmanager and VictoriaMetrics from Debian's unstable suite into a folder.
# Nothing is installed into the system. The suite moves, so no version is pinned.
#
#   newer_servers.sh FOLDER
set -euo pipefail
folder="$(realpath --canonicalize-missing "$1")"
[[ ! -x $folder/usr/bin/victoria-metrics ]] || exit 0
mkdir -p "$folder"/apt/{lists,cache}/partial
cd "$folder/apt"
: >status
# The mirror is the machine's own.
mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | sort -u | sed -n 1p)"
printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" >sid.sources
options=(
    -o "Dir::Etc::SourceList=$PWD/sid.sources" -o Dir::Etc::SourceParts=/dev/null -o Acquire::Languages=none
    -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o "Dir::State::Status=$PWD/status"
    -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root
)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -qq download prometheus promtool prometheus-alertmanager victoria-metrics
for package in *.deb; do dpkg --extract "$package" "$folder"; done
rm -r "$folder/apt"
