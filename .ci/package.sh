#!/usr/bin/env bash
# The .deb is installed, started and purged on this machine.
#
# Usage: package.sh PACKAGE.deb
set -euo pipefail
log="$(mktemp)"
package="$(realpath "$1")"
config=/etc/koodrive-exporter/koodrive-exporter.yml

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
fail() { printf '%s\n' "$*" >&2; exit 1; }

[[ ! -e $config ]] || fail "$config is here already"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
getent passwd koodrive-exporter >/dev/null || fail "no user was made"
[[ $(stat -c '%a %U:%G' "$config") == "640 root:koodrive-exporter" ]] || fail "the configuration has other permissions"
dpkg-query -L koodrive-exporter | grep -qx /usr/share/man/man1/koodrive-exporter.1.gz || fail "no man page"
dpkg-query -L koodrive-exporter | grep -q bash-completion || fail "no completions"
bash -c '. /usr/share/bash-completion/completions/koodrive-exporter && complete -p koodrive-exporter' >/dev/null
systemd-analyze verify --man=no /usr/lib/systemd/system/koodrive-exporter.service

# The unit's own command, as the unit's own user, with a configuration of the simulator's.
koodrive-exporter simulate --listen-address 127.0.0.1:10799 --write-config "$config" >/dev/null &
for _ in $(seq 50); do grep -q simulated "$config" && break; sleep 0.1; done
runuser -u koodrive-exporter -- $(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/koodrive-exporter.service) \
    --web.listen-address 127.0.0.1:10798 2>"$log" &
exporter=$!
for _ in $(seq 50); do koodrive-exporter healthcheck --url http://127.0.0.1:10798/-/healthy 2>/dev/null && break; sleep 0.1; done
metrics="$(curl -sf http://127.0.0.1:10798/metrics || true)"
grep -q '^koodrive_polls_total{account="production"}' <<<"$metrics" || fail "$(cat "$log")"
kill %1 "$exporter" 2>/dev/null || true
wait || true

DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq koodrive-exporter >/dev/null
[[ ! -e /etc/koodrive-exporter && ! -e /usr/bin/koodrive-exporter ]] || fail "the purge left files behind"
! getent passwd koodrive-exporter >/dev/null || fail "the purge left the user behind"
rm -f "$log"
echo "the package was installed, started as its own user, and purged"
