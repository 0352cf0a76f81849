#!/bin/sh
# Prints the path of Debian's kubectl, fetching it once into .cache/. The package is unpacked and not installed: a
# kubectl of another vendor may already occupy /usr/bin on a development machine.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cache="$root/.cache/kubectl"
kubectl="$cache/root/usr/bin/kubectl"
if [ ! -x "$kubectl" ]; then
  mkdir -p "$cache"
  # Two callers at once must not unpack over each other.
  exec 9>"$cache/lock"
  flock 9
  if [ ! -x "$kubectl" ]; then
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    (cd "$work" && { apt-get download -q kubernetes-client || { apt-get update -q && apt-get download -q kubernetes-client; }; }) >&2
    dpkg -x "$work"/kubernetes-client_*.deb "$work/root"
    rm -rf "$cache/root"
    mv "$work/root" "$cache/root"
  fi
fi
echo "$kubectl"
