#!/usr/bin/env bash
# Builds the static program for arm64 and runs its demo in an emulator. Runs in a root of debian_root.sh: /mnt has a clone
# and, vendored, what it depends on. Standard output gets the program.
set -euo pipefail
target=aarch64-unknown-linux-gnu
export CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/tmp/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=true
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc RUSTFLAGS="-C target-feature=+crt-static"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc KOODRIVE_EXPORTER_BUILD_REVISION="$1"
mkdir $CARGO_HOME
sed 's|^directory = .*|directory = "/mnt/vendor"|' /mnt/vendor.toml >$CARGO_HOME/config.toml
cargo --version >&2
# Optimizing would take minutes more, and shows nothing more.
(cd /mnt/source && cargo build --locked --offline --target $target) >&2

program=$CARGO_TARGET_DIR/$target/debug/koodrive-exporter
fail() { cat /tmp/log >&2; echo "$*" >&2; exit 1; }
qemu-aarch64 $program demo >/tmp/log 2>&1 &
demo=$!
scrape() {
    exec 3<>/dev/tcp/127.0.0.1/10710
    printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    cat <&3
}
for _ in $(seq 300); do
    ! { qemu-aarch64 $program healthcheck && scrape | grep '^koodrive_up{account="production"} 1'; } &>/tmp/answer || break
    sleep 0.2
done
grep koodrive_up /tmp/answer >&2 || fail "the demo does not poll"
scrape | grep "^koodrive_exporter_build_info" >&2
kill -TERM $demo
wait $demo || fail "SIGTERM: exit code $?"
cat $program
