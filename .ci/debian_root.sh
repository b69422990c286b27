#!/usr/bin/env bash
# A Debian root in which the gate starts containers and services, or builds for arm64. Nothing in it changes this machine:
# it has its own processes, mounts and network, and what is written goes to memory.
#
#   debian_root.sh make ROOT                     makes one of Debian 13 with Podman and systemd, unless it is there already
#   debian_root.sh make-arm64 ROOT               the same of Debian's unstable suite, with Rust and an emulator
#   debian_root.sh run ROOT SHARED COMMAND...    runs a command in it; SHARED is seen at /mnt, read-only
#   debian_root.sh boot ROOT SHARED COMMAND...   the same, with systemd running
#
# Exit code 77: this machine cannot do that.
set -euo pipefail
packages=adduser,buildah,ca-certificates,crun,curl,dbus,init-system-helpers,iproute2,podman,procps,rpm,systemd,systemd-sysv,util-linux
cross_packages=(rustc cargo gcc libc6-dev libstd-rust-dev:arm64 libc6-dev:arm64 gcc-aarch64-linux-gnu qemu-user)
unavailable() { echo "$*" >&2; exit 77; }

make() {
    local root="$1" suite="$2" include="$3" mirror
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)"
    [[ -n $mirror ]] || unavailable "apt is not set up for Debian here"
    rm -rf "$root" "$root.packages"
    timeout 500 debootstrap --variant=minbase --include="$include" "$suite" "$root" "$mirror" >"$root.log" ||
        { tail -n 5 "$root.log" >&2; unavailable "debootstrap failed"; }
    mkdir -p "$root.memory"
}

# Packages of another architecture are none that debootstrap takes.
add_cross_packages() {
    local root="$1"
    cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
    chroot "$root" dpkg --add-architecture arm64
    { chroot "$root" apt-get -o Acquire::Check-Valid-Until=false update &&
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install --yes --no-install-recommends "${cross_packages[@]}"; } \
        >>"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; unavailable "there is no compiler for arm64"; }
}

# Notes what a root was made with: it is made again where that is something else.
is_made() { [[ -e $1.packages && "$(cat "$1.packages")" == "$2" ]]; }
made() {
    rm -f "$1"/var/cache/apt/archives/*.deb
    echo "$2" >"$1.packages"
}

# Runs as the first process of new namespaces: changes to the root, then starts what is asked for.
enter() {
    local kind="$1" root="$2" shared="$3" folder
    shift 3
    local memory="$root.memory"
    mount -t tmpfs tmpfs "$memory"
    mkdir "$memory"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$memory/upper,workdir=$memory/work" "$memory/root"
    cd "$memory/root"
    mount --bind -o ro "$shared" mnt
    mount -t proc proc proc
    mount --bind -o ro proc/sys proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    for folder in run tmp dev var/lib/containers; do
        mkdir -p "$folder"
        mount -t tmpfs -o mode=755 tmpfs "$folder"
    done
    chmod 1777 tmp
    # Not those of this machine: a container runtime changes the owner of the device that is its standard input.
    mknod -m 666 dev/null c 1 3
    mknod -m 666 dev/zero c 1 5
    mknod -m 666 dev/full c 1 7
    mknod -m 666 dev/random c 1 8
    mknod -m 666 dev/urandom c 1 9
    mknod -m 666 dev/tty c 5 0
    mkdir dev/{pts,shm} old
    mount -t devpts devpts dev/pts
    mount -t tmpfs tmpfs dev/shm
    ln -s /proc/self/fd dev/fd
    ln -s pts/ptmx dev/ptmx
    ip link set lo up
    pivot_root . old
    umount -l old
    ln -s /dev/null etc/systemd/system/systemd-modules-load.service
    # Without it, systemd cannot hand credentials to a service.
    mount --make-rshared /
    local environment=(env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8)
    [[ $kind == boot ]] || exec "${environment[@]}" "$@"
    exec "${environment[@]}" /lib/systemd/systemd --log-level=warning --show-status=no
}

# A new control group, in which systemd makes its own.
cgroup() {
    local mounted
    mounted="$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)"
    [[ -n $mounted ]] && mkdir -p "$mounted/debian-root-$$" 2>/dev/null || unavailable "there is no writable cgroup2 here"
    echo "$mounted/debian-root-$$"
}

start() {
    local namespaces=(--pid --fork --mount --uts --ipc --cgroup --net --kill-child) code=0
    unshare "${namespaces[@]}" true 2>/dev/null || unavailable "no namespaces can be made here"
    group="$(cgroup)"
    trap clean EXIT
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec unshare "${namespaces[@]}" bash "$0" enter "$@"
    ) &
    shell=$!
    local inside
    if [[ $1 == run ]]; then
        wait "$shell" || code=$?
    else
        shift 3
        for _ in $(seq 300); do
            inside="$(pgrep --parent "$shell" || true)"
            [[ -z $inside ]] || ! in_namespaces "$inside" systemctl is-system-running &>/dev/null || break
            sleep 0.1
        done
        in_namespaces "$inside" "$@" || code=$?
    fi
    return "$code"
}

clean() {
    # systemd ends by no other signal. All processes of a namespace end with its first.
    ! kill -9 "${shell:-}" 2>/dev/null || wait "$shell" 2>/dev/null || true
    # The kernel takes a moment to empty the group.
    for _ in $(seq 20); do
        ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || return 0
        sleep 0.1
    done
}

in_namespaces() {
    local process="$1"
    shift
    nsenter --target "$process" --pid --mount --uts --ipc --cgroup --net -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

case "$1" in
    make) is_made "$2" "$packages" || { make "$2" trixie "$packages" && made "$2" "$packages"; } ;;
    make-arm64)
        is_made "$2" "${cross_packages[*]}" ||
            { make "$2" sid ca-certificates && add_cross_packages "$2" && made "$2" "${cross_packages[*]}"; } ;;
    run | boot) start "$@" ;;
    enter) shift; enter "$@" ;;
    *) unavailable "there is no $1: see the head of this file" ;;
esac
