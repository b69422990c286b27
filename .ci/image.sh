#!/usr/bin/env bash
# Podman loads the container image's archive and runs it with no more rights than it needs. Runs in the root of
# debian_root.sh, with the repository at /mnt.
set -euo pipefail
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' /mnt/Cargo.toml | head -n 1)"
image="docker.io/library/koodrive-exporter:$version"
networking="--cgroups=disabled --network host"
# The exporter ends within a second. Docker and Kubernetes kill after ten and thirty.
stop_bound_ms=3000

fail() { printf '%s\n' "$*" >&2; podman ps --all >&2; podman logs exporter >&2 || true; exit 1; }
podman() { command podman --storage-driver vfs --cgroup-manager cgroupfs "$@"; }
run() {
    local name="$1"
    shift
    podman run --detach --name "$name" $networking --read-only --read-only-tmpfs=false --cap-drop ALL \
        --security-opt no-new-privileges "$@" >/dev/null
}
until_true() {
    local what="$1"
    shift
    for _ in $(seq 150); do "$@" && return; sleep 0.1; done
    fail "$what: not within 15 seconds"
}
metrics() { curl -sf http://127.0.0.1:10710/metrics; }
has_metric() { grep -qE "$1" <<<"$(metrics)"; }
remove() { podman rm --force --time 0 "$@" >/dev/null; }

# The README's ways to install from an archive and as a container, in a folder with the release files.
install="$(/mnt/.ci/commands /mnt/README.md "Each block"; /mnt/.ci/commands /mnt/README.md "**Archive")"
container="$(/mnt/.ci/commands /mnt/README.md "Each block"; /mnt/.ci/commands /mnt/README.md "**Container")"
cp -r /mnt/target/release-files /tmp/files
cd /tmp/files
cat >koodrive.yml <<'CONFIG'
endpoint: http://127.0.0.1:1
accounts: { production: { user_id: "1", auth: { type: token, token_file: /none } } }
CONFIG
sudo() { "$@"; }
PATH="/usr/local/bin:$PATH"
eval "$install"
[[ "$(koodrive-exporter --version)" == "koodrive-exporter $version" ]] || fail "another program is installed"
eval "${container//podman run /podman run $networking }"
until_true "the container is healthy" podman healthcheck run koodrive-exporter
eval "$(grep -E '# (systemd, )?container$' /mnt/deploy/runbooks/README.md)"
grep -q '^production  credentials' <<<"$(exporter check --online)" || fail "the runbooks' exporter polls nothing"
reload
is_reloaded() { grep -q 'message="configuration reloaded"' <<<"$(log)"; }
until_true "the runbooks' reload is in the runbooks' log" is_reloaded
remove koodrive-exporter
echo "the README's ways to install the archive and the container work as they stand"
[[ "$(podman image inspect "$image" --format '{{.Architecture}}')" == "$(dpkg --print-architecture)" ]] ||
    fail "the image is of another architecture"

for hosts in "" --no-hosts; do
    run exporter $hosts "$image" demo
    until_true "the demo has metrics" has_metric '^koodrive_up\{account="production"\} 1'
    podman healthcheck run exporter || fail "unhealthy with '$hosts'"
    process="$(podman inspect exporter --format '{{.State.Pid}}')"
    [[ "$(awk '/^(Uid|Gid|CapEff|NoNewPrivs):/ { printf "%s ", $3 ? $3 : $2 }' "/proc/$process/status")" == \
        "65532 65532 0000000000000000 1 " ]] ||
        fail "another user, or more rights: $(grep -E 'Uid|Gid|Cap|NoNew' "/proc/$process/status")"
    grep -q '^[^ ]* / [^ ]* ro,' "/proc/$process/mounts" || fail "the root of the container is writable"
    begun="$(date +%s%N)"
    podman stop --time 10 exporter >/dev/null
    took=$((($(date +%s%N) - begun) / 1000000))
    ended="$(podman inspect exporter --format '{{.State.ExitCode}}')"
    ((ended == 0 && took < stop_bound_ms)) || fail "SIGTERM: exit code $ended after $took ms"
    ! podman healthcheck run exporter 2>/dev/null || fail "a stopped container is healthy"
    remove exporter
    echo "the demo${hosts:+ without /etc/hosts} answers, is healthy, and stops in $took ms (bound: $stop_bound_ms ms)"
done

# Secrets as Kubernetes mounts them: the kubelet replaces the link ..data, which all names lead through.
secrets=/tmp/secrets
mkdir -p $secrets/..first
printf simulated-token-00001 >$secrets/..first/token
ln -s ..first $secrets/..data
ln -s ..data/token $secrets/token
chmod -R a+rX $secrets
cat >/tmp/koodrive.yml <<'CONFIG'
endpoint: http://127.0.0.1:10711
poll: { interval: 1s, timeout: 500ms }
accounts:
  finance: { user_id: "1505084218764547201", auth: { type: token, token_file: /run/secrets/koodrive/token } }
CONFIG
run simulator "$image" simulate --listen-address 127.0.0.1:10711
run exporter --volume $secrets:/run/secrets/koodrive:ro \
    --volume /tmp/koodrive.yml:/etc/koodrive-exporter/koodrive-exporter.yml:ro "$image"
until_true "the token of the file is used" has_metric '^koodrive_up\{account="finance"\} 1'
curl -sf -X PUT http://127.0.0.1:10711/simulator/accounts/1505084218764547201 -d '{"token": "renewed-token"}' >/dev/null
until_true "the old token is refused" has_metric '^koodrive_up\{account="finance"\} 0'
mkdir -m 755 $secrets/..second
printf renewed-token >$secrets/..second/token
ln -s ..second $secrets/..data.new
mv --no-target-directory $secrets/..data.new $secrets/..data
rm -r $secrets/..first
until_true "the renewed token is used" has_metric '^koodrive_up\{account="finance"\} 1'
remove exporter simulator
echo "a token in a mounted secret is replaced without a restart"

echo "accounts: {}" >/tmp/koodrive.yml
code=0
podman run --rm $networking --read-only --volume /tmp/koodrive.yml:/etc/koodrive-exporter/koodrive-exporter.yml:ro \
    "$image" 2>/dev/null || code=$?
((code == 3)) || fail "an invalid configuration: exit code $code"

# The last stage of the Dockerfile, with the archive's own program in the place of the build.
mkdir /tmp/build
mounted="$(podman image mount "$image")"
cp "$mounted/usr/bin/koodrive-exporter" /tmp/build/
podman image unmount "$image" >/dev/null
revision="$(podman image inspect "$image" --format '{{index .Labels "org.opencontainers.image.revision"}}')"
buildah --storage-driver vfs build --quiet --isolation chroot --format docker --tag dockerfile \
    --build-context build=/tmp/build --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg SOURCE="$(sed -n 's/^repository = "\(.*\)"$/\1/p' /mnt/Cargo.toml)" \
    --unsetlabel io.buildah.version --file /mnt/deploy/docker/Dockerfile /mnt >/dev/null
describe() {
    local folder
    podman image inspect "$1" --format '{{json .Config}} {{json .HealthCheck}} {{.Architecture}} {{.Os}}' | sed 's/,"/,\n"/g'
    folder="$(podman image mount "$1")"
    # The size of a folder depends on the file system.
    (cd "$folder" && find . -mindepth 1 \( -type d -printf '%M %U:%G %P\n' -o -printf '%M %U:%G %s %P\n' \) | sort)
    (cd "$folder" && find . -type f -exec sha256sum {} + | sort)
    podman image unmount "$1" >/dev/null
}
describe "$image" >/tmp/archive.txt
describe localhost/dockerfile >/tmp/dockerfile.txt
grep -q '"CMD"' /tmp/archive.txt || fail "the image has no health check"
diff /tmp/archive.txt /tmp/dockerfile.txt || fail "the Dockerfile makes another image"
echo "the Dockerfile makes the same image"
