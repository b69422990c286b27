#!/usr/bin/env bash
# The checksums of the release files are signed with a key that is made for this check, and a change is noticed.
set -euo pipefail
folder="$(mktemp -d)"
export GNUPGHOME="$folder/keys"
trap 'gpgconf --kill all; rm -rf "$folder"' EXIT
fail() { echo "$*" >&2; exit 1; }

mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key release@koodrive-exporter.example ed25519 sign 1d
mkdir "$folder/files"
cp target/release-files/*.cdx.json "$folder/files"
KOODRIVE_EXPORTER_SIGNING_KEY=release@koodrive-exporter.example deploy/checksums "$folder/files"
cd "$folder/files"
gpg --batch --quiet --verify sha256sums.txt.asc sha256sums.txt
sha256sum --check --quiet sha256sums.txt
echo "0  another" >>sha256sums.txt
! gpg --batch --quiet --verify sha256sums.txt.asc sha256sums.txt 2>/dev/null || fail "a changed list has a good signature"
echo "a signature is good, and a changed list is refused"
