#!/usr/bin/env bash
# Installs what building, testing and trying mesh-agent needs on Debian 12 or newer: packages of the distribution, then
# the locked npm packages, among them the Node that everything runs on. Quick when all is there; safe to repeat.
# `setup.sh packaging` adds what only building and checking packages, repositories and images needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Package, and a file that is there once it is installed.
packages='
nftables            /usr/sbin/nft
iproute2            /usr/sbin/ip /sbin/ip
haproxy             /usr/sbin/haproxy
nginx-light         /usr/sbin/nginx
wrk                 /usr/bin/wrk
nghttp2-client      /usr/bin/h2load
tcpdump             /usr/bin/tcpdump
curl                /usr/bin/curl
openssl             /usr/bin/openssl
ca-certificates     /etc/ssl/certs/ca-certificates.crt
git                 /usr/bin/git
binutils            /usr/bin/strip
systemd-container   /usr/bin/systemd-nspawn
openssh-client      /usr/bin/ssh
debootstrap         /usr/sbin/debootstrap
libatomic1          /usr/lib/x86_64-linux-gnu/libatomic.so.1 /usr/lib/aarch64-linux-gnu/libatomic.so.1
'
# strip for the other architecture; rpmbuild and rpmsign; the indexes of both repositories; linters; arm64 once on amd64.
if [ "${1:-}" = packaging ]; then
  case "$(uname -m)" in
    aarch64) foreign=x86-64-linux-gnu strip=/usr/bin/x86_64-linux-gnu-strip ;;
    *) foreign=aarch64-linux-gnu strip=/usr/bin/aarch64-linux-gnu-strip ;;
  esac
  packages+="
binutils-$foreign   $strip
rpm                 /usr/bin/rpmbuild
rpm2cpio            /usr/bin/rpm2cpio
cpio                /usr/bin/cpio
man-db              /usr/bin/man
createrepo-c        /usr/bin/createrepo_c
apt-utils           /usr/bin/apt-ftparchive
gnupg               /usr/bin/gpg
lintian             /usr/bin/lintian
rpmlint             /usr/bin/rpmlint
qemu-user-static    /usr/bin/qemu-aarch64-static
"
fi
missing=()
while read -r package files; do
  [ -n "$package" ] || continue
  found=
  for file in $files; do if [ -e "$file" ]; then found=1; fi; done
  if [ -z "$found" ]; then missing+=("$package"); fi
done <<<"$packages"

if [ ${#missing[@]} -gt 0 ]; then
  say "installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -q
  # The services of these packages (haproxy, nftables) are not wanted, only the programs.
  policy=/usr/sbin/policy-rc.d
  made=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 0755 "$policy"
    made=1
  fi
  trap 'if [ -n "$made" ]; then as_root rm -f "$policy"; fi' EXIT
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
else
  say "Debian packages: all there"
fi

# npm ci starts from nothing, so only when what is installed differs from the lock file.
if node - <<'JS'
const { existsSync, readFileSync } = require("node:fs");
const read = (path) => JSON.parse(readFileSync(path, "utf8")).packages;
const there = "node_modules/.package-lock.json";
if (!existsSync(there)) process.exit(1);
const installed = read(there);
for (const [path, { version, optional, peer }] of Object.entries(read("package-lock.json"))) {
  if (path === "") continue;
  const found = installed[path];
  if (found === undefined ? !(optional || peer) : found.version !== version) process.exit(1);
}
JS
then
  say "npm packages: as locked"
else
  say "installing npm packages as locked"
  npm_flags=(--ignore-scripts --no-audit --no-fund)
  # A registry that lacks the packages of other platforms leaves them out of the lock file, and npm ci then takes the
  # file for outdated. npm install follows the same lock file and passes over optional packages that do not exist.
  npm ci "${npm_flags[@]}" --loglevel=silent || npm install --no-save "${npm_flags[@]}" --loglevel=error
fi

node_modules/.bin/node -e 'console.log(`setup: ready, Node ${process.version}`)'
