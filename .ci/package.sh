#!/usr/bin/env bash
# The packages are installed, started by systemd, upgraded and purged. Runs in the booted root of debian_root.sh, with the
# repository at /mnt.
set -euo pipefail
package="$(echo /mnt/target/release-files/*.deb)"
rpm="$(echo /mnt/target/release-files/*.rpm)"
config=/etc/koodrive-exporter/koodrive-exporter.yml
unit=koodrive-exporter.service
url=http://127.0.0.1:10710
export DEBIAN_FRONTEND=noninteractive

fail() { printf '%s\n' "$*" >&2; journalctl --unit $unit --no-pager --lines 20 >&2 || true; exit 1; }
until_true() {
    local what="$1"
    shift
    for _ in $(seq 300); do "$@" && return; sleep 0.1; done
    fail "$what: not within 30 seconds"
}
property() { systemctl show --property "$1" --value $unit; }
has_metric() { grep -qE "$1" <<<"$(curl -sf --max-time 3 $url/metrics)"; }
polls() { has_metric '^koodrive_up\{account="production"\} 1'; }
restarted() { [[ "$(property NRestarts)" == "$1" && "$(property ActiveState)" == active ]]; }
in_state() { [[ "$(property ActiveState)" == "$1" ]]; }
simulate() {
    systemd-run --quiet --unit simulator --collect /usr/bin/koodrive-exporter simulate \
        --listen-address 127.0.0.1:10711 --write-config /run/simulated.yml --interval 2s
    until_true "the simulator writes a configuration" grep -qs archive /run/simulated.yml
    cat /run/simulated.yml >$config
}

# A .deb with a higher version and another default configuration.
newer() {
    rm -rf /tmp/newer
    dpkg-deb --raw-extract "$package" /tmp/newer
    sed -i 's/^Version: .*/Version: 999.0.0-1/' /tmp/newer/DEBIAN/control
    echo "# Another comment." >>/tmp/newer$config
    dpkg-deb --build --root-owner-group -Znone /tmp/newer /tmp/newer.deb >/dev/null
}

# As the README says, line by line.
readarray -t install < <(/mnt/.ci/commands /mnt/README.md "Each block" | grep '^version='; /mnt/.ci/commands /mnt/README.md "**Debian")
((${#install[@]} == 3)) || fail "the README's commands for Debian are others than a version and two commands"
sudo() { "$@"; }
apt-get() { command apt-get --quiet=2 "$@" >/dev/null; }
cd /mnt/target/release-files
eval "${install[0]}"
eval "${install[1]}"
getent passwd koodrive-exporter >/dev/null || fail "no user was made"
[[ $(stat -c '%a %U:%G' $config) == "640 root:koodrive-exporter" ]] || fail "the configuration has other permissions"
[[ "$(property UnitFileState) $(property ActiveState)" == "disabled inactive" ]] || fail "the service is enabled or started"
bash -c '. /usr/share/bash-completion/completions/koodrive-exporter && complete -p koodrive-exporter' >/dev/null
systemd-analyze verify --man=no /usr/lib/systemd/system/$unit
simulate
eval "${install[2]}" 2>/dev/null
[[ "$(property UnitFileState)" == enabled ]] || fail "the README's command does not enable the service"
systemctl start $unit
until_true "the exporter polls" polls
[[ "$(ps -o user:32= -p "$(property MainPID)" | tr -d ' ')" == koodrive-exporter ]] || fail "it runs as another user"
(($(awk '/^Seccomp_filters:/ { print $2 }' "/proc/$(property MainPID)/status") > 0)) || fail "system calls are not filtered"
echo "the .deb installs, and its service starts as its own user"

process="$(property MainPID)"
sed -i '/^  archive:/,$d' $config
systemctl reload $unit
account_gone() { ! has_metric 'account="archive"'; }
until_true "a reload removes an account" account_gone
[[ "$(property MainPID)" == "$process" ]] || fail "a reload started another process"
echo "it reloads"

eval "$(grep -E '# systemd(, container)?$' /mnt/deploy/runbooks/README.md)"
exporter check --online >/dev/null || fail "the runbooks' exporter: exit code $?"
[[ $WEB_CONFIG == ${config%/*}/* ]] || fail "the runbooks' web configuration file is elsewhere"
grep -q 'message=polling' <<<"$(log)" || fail "the runbooks' log shows nothing"
reload
readarray -t commands < <(grep -hE '^(systemctl|timedatectl)' /mnt/deploy/runbooks/KooDrive*.md)
((${#commands[@]} > 2)) || fail "the runbooks ask systemd for nothing"
for command in "${commands[@]}"; do eval "$command" >/dev/null || fail "a runbook's $command"; done
echo "the runbooks' commands for systemd work"

# Two seconds instead of the unit's minute, and as many starts as the checks below need.
mkdir -p /etc/systemd/system/$unit.d
printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nWatchdogSec=2s\nRestartSec=100ms\n' >/etc/systemd/system/$unit.d/fast.conf
systemctl daemon-reload
systemctl restart $unit
kill -STOP "$(property MainPID)"
until_true "the watchdog restarts a hung exporter" restarted 1
until_true "the restarted exporter polls" polls
echo "the watchdog restarts it"

install -m 600 -o root -g root /dev/null /etc/koodrive-exporter/token
printf simulated-token-00001 >/etc/koodrive-exporter/token
cp -p $config /tmp/before
printf '[Service]\nLoadCredential=koodrive-token:/etc/koodrive-exporter/token\n' >/etc/systemd/system/$unit.d/token.conf
sed -i "s|token: simulated-token-00001|token_file: /run/credentials/$unit/koodrive-token|" $config
grep -q token_file $config || fail "the simulator's configuration has no token to replace"
systemctl daemon-reload
systemctl restart $unit
has_finance() { has_metric '^koodrive_up\{account="finance"\} 1'; }
until_true "a credential that root alone may read is used" has_finance
echo "LoadCredential works"

for program in fetch-token renew-token; do
    sed -n "/^cat >$program <<'EOF'\$/,/^EOF\$/p" /mnt/docs/tokens.md | sed '1d;$d' >/usr/local/bin/$program
    chmod 755 /usr/local/bin/$program
done
cp /mnt/deploy/systemd/koodrive-token.* /etc/systemd/system/
systemctl daemon-reload
systemctl start koodrive-token.timer
until_true "the timer writes a token" test -s /run/koodrive-token/token
until_true "the credential that systemd copied is the old one" has_metric '^koodrive_up\{account="finance"\} 0'
sed -i "s|/run/credentials/$unit/koodrive-token|/run/koodrive-token/token|" $config
[[ $(stat -c '%a %U:%G' /run/koodrive-token/token) == "640 koodrive-exporter:koodrive-exporter" ]] || fail "the token's mode or owner"
systemctl reload $unit
until_true "the token of the timer is used" has_finance
systemctl start koodrive-token.service
until_true "a renewed token is used without a restart" has_metric '^koodrive_credential_rotations_total\{account="finance"\} [1-9]'
until_true "a renewed token is the right one" has_finance
systemctl stop koodrive-token.timer
echo "the guide's timer renews the token"

systemctl stop $unit
systemctl start koodrive-exporter.socket
[[ "$(property ActiveState)" == inactive ]] || fail "the socket started the service"
until_true "a connection starts the exporter" polls
grep -q 'message=listening' <<<"$(journalctl --unit $unit --no-pager --lines 50)" || fail "nothing listens"
process="$(property MainPID)"
systemctl restart $unit & 
code=0
for _ in $(seq 20); do curl -sf --max-time 10 -o /dev/null $url/-/healthy || code=$?; done
wait
((code == 0)) || fail "a request was refused while the exporter restarted: curl's exit code $code"
[[ "$(property MainPID)" != "$process" ]] || fail "the exporter was not restarted"
systemctl stop koodrive-exporter.socket $unit
echo "socket activation works, and no request is refused during a restart"

echo "poll: { interval: soon }" >>$config
! systemctl start $unit 2>/dev/null || fail "an invalid configuration starts"
sleep 1
[[ "$(property ExecMainStatus) $(property ActiveState) $(property NRestarts)" == "3 failed 0" ]] ||
    fail "an invalid configuration: exit code, state, restarts: $(property ExecMainStatus) $(property ActiveState) $(property NRestarts)"
cp -p /tmp/before $config
systemctl reset-failed $unit
rm /etc/systemd/system/$unit.d/*.conf
systemctl daemon-reload
systemctl start $unit
until_true "the exporter polls with the old configuration" polls
echo "an invalid configuration ends it with exit code 3, without restarts"

newer
before="$(sha256sum $config) $(stat -c '%a %U:%G' $config) $(id koodrive-exporter) $(property UnitFileState)"
process="$(property MainPID)"
dpkg --force-confold --install /tmp/newer.deb >/dev/null
after="$(sha256sum $config) $(stat -c '%a %U:%G' $config) $(id koodrive-exporter) $(property UnitFileState)"
[[ $before == "$after" ]] || fail "the upgrade changed what the administrator set: $before, $after"
[[ "$(property ActiveState)" == active && "$(property MainPID)" != "$process" ]] || fail "the upgrade did not restart the service"
until_true "the upgraded exporter polls" polls
echo "an upgrade keeps configuration, user and state, and restarts the service"

listed() { sed -E 's,/lib/systemd,/usr&,; s,^(/usr)?/usr,/usr,; s,\.1\.gz$,.1,; s,/zsh/(vendor-completions|site-functions)/,/zsh/,'; }
deb_files="$(dpkg-query --listfiles koodrive-exporter | while read -r path; do [[ -d $path ]] || echo "$path"; done | listed |
    grep -v '/copyright$' | sort)"
systemctl stop simulator
dpkg --purge koodrive-exporter >/dev/null
in_state inactive || fail "the purged service runs"
[[ ! -e $config && ! -e /usr/bin/koodrive-exporter ]] || fail "the purge left files behind"
[[ ! -e /etc/koodrive-exporter ]] || fail "the purge left files behind: $(ls /etc/koodrive-exporter)"
! getent passwd koodrive-exporter >/dev/null || fail "the purge left the user behind"
echo "the purge leaves nothing behind"

# The database of Debian's rpm knows no library: the needs of the package are looked at by name.
rpm() { command rpm --root / --dbpath /tmp/rpm "$@"; }
readarray -t install < <(/mnt/.ci/commands /mnt/README.md "**Fedora")
eval "${install[0]/--install/--install --nodeps}"
rpm_files="$(rpm --query --list --package "$rpm" | listed | grep -v '^/usr/share/licenses/' | sort)"
diff <(echo "$deb_files") <(echo "$rpm_files") || fail "the .rpm has other files than the .deb"
grep -q '^libc\.so\.6' <<<"$(rpm --query --requires --package "$rpm")" || fail "the .rpm does not name the C library"
[[ $(stat -c '%a %U:%G' $config) == "640 root:koodrive-exporter" ]] || fail "the .rpm's configuration has other permissions"
simulate
systemctl start $unit
until_true "the exporter of the .rpm polls" polls
before="$(systemctl show --property MainPID --value $unit)"
rpm --upgrade --replacepkgs --nodeps "$rpm"
[[ $(systemctl show --property MainPID --value $unit) != "$before" ]] || fail "an upgrade of the .rpm left the old program running"
until_true "the upgraded exporter of the .rpm polls" polls
eval "${install[1]}" 2>/dev/null
systemctl is-enabled --quiet $unit || fail "the README's second command for Fedora does not enable the service"
rpm --erase koodrive-exporter
in_state inactive || fail "the erased service runs"
[[ ! -e /usr/bin/koodrive-exporter && -e $config.rpmsave ]] || fail "erasing left the program, or took the configuration"
systemctl stop simulator
echo "the .rpm has the same files, installs, starts, is enabled, restarts in an upgrade, and is erased"
