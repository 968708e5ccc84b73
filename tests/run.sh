#!/usr/bin/env bash
# Runs everything that has to pass: formatting, lints, and the tests, against real PostgreSQL servers.
#
#   tests/run.sh [--offline]
#
# Needs Rust with cargo, rustfmt and clippy. What else it needs, it installs on Debian (as root, or where sudo asks for
# no password); elsewhere it says what to install. Other PostgreSQL majors than 15 are fetched once, by
# tests/postgres-majors.sh, and their pg_waldump by tests/pg-waldump.sh; the tests of those that cannot be had are
# skipped, and named at the end.
#
#   --offline   fetch and install nothing
#   -h, --help  this text
set -uo pipefail

offline=()
case ${1-} in
  '') ;;
  --offline)
    offline=(--offline)
    export CARGO_NET_OFFLINE=true
    ;;
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
  *)
    echo "usage: tests/run.sh [--offline]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.." || exit 1
# rustup's place, which shells that are not login shells may not have in their path.
PATH=$PATH:${CARGO_HOME:-${HOME-}/.cargo}/bin
SECONDS=0

say() { printf '\n==> %s\n' "$*"; }

stop() {
  printf 'tests/run.sh: %s\n' "$*" >&2
  exit 1
}

# Whether PostgreSQL 15's server is where the tests look for it.
has_postgres_15() {
  local directory
  for directory in /usr/lib/postgresql/15 /usr/pgsql-15 target/postgres/15; do
    [ -x "$directory/bin/postgres" ] && return 0
  done
  return 1
}

has() { command -v "$1" >/dev/null 2>&1; }

has_pip() { python3 -m pip --version >/dev/null 2>&1; }

# Debian's names of the packages whose programs are missing.
missing_packages() {
  has_postgres_15 || echo postgresql-15
  has psql || echo postgresql-client-15
  has tmux || echo tmux
  has xz || echo xz-utils
  has bzip2 || echo bzip2
  has zstd || echo zstd
  has lz4 || echo lz4
  has cc || printf '%s\n' gcc libc6-dev
}

# Installs Debian packages, as root or through a sudo that does not ask. No wait is without end.
install() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 900 apt-get -q -y
    -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o DPkg::Lock::Timeout=120)
  "${apt[@]}" update </dev/null
  "${apt[@]}" install --no-install-recommends "$@" </dev/null
}

# Whether packages can be installed here without asking anybody.
can_install() {
  [ ${#offline[@]} = 0 ] && has apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ] && can_install; then
  say "installing ${missing[*]}"
  install "${missing[@]}"
  mapfile -t missing < <(missing_packages)
fi
if [ ${#missing[@]} -gt 0 ]; then
  stop "something that the tests need is missing. Install it and run this again.
  on Debian:  sudo apt-get install ${missing[*]}
  elsewhere:  PostgreSQL 15's server and client programs (a directory whose bin/ holds them may be linked as
              target/postgres/15), tmux, xz, bzip2, zstd, lz4, and a C compiler for linking"
fi
for program in cargo cargo-fmt cargo-clippy; do
  has "$program" || stop "$program is missing: install Rust from https://rustup.rs, then: rustup component add rustfmt clippy"
done
# A browser opens the reports of drills; without one that is left out, and named.
if ! has chromium && can_install; then
  say "installing chromium"
  install chromium || say "chromium cannot be installed"
fi
# Tabs side by side: a major that is missing. grep reads to the end, or the script that it reads from would fail.
if ! has npm && can_install && tests/postgres-majors.sh --offline | grep "$(printf '\t\t')" >/dev/null; then
  say 'installing npm, which fetches other PostgreSQL majors'
  install npm || echo 'npm cannot be installed: going on without it'
fi

if ! has_pip && can_install && tests/pg-waldump.sh --offline | grep -E "^1[678]$(printf '\t\t')" >/dev/null; then
  say 'installing pip, which fetches pg_waldump of other PostgreSQL majors'
  install python3-pip || echo 'pip cannot be installed: going on without it'
fi

# Only root can mount a file system whose files share blocks, for one of the tests.
if [ "$(id -u)" = 0 ] && ! has mkfs.xfs && can_install; then
  say 'installing xfsprogs, for a file system whose files share blocks'
  install xfsprogs || echo 'xfsprogs cannot be installed: going on without it'
fi

say 'PostgreSQL majors'
majors=$(tests/postgres-majors.sh "${offline[@]}") || stop 'the majors cannot be looked for: see above'
printf '%s\n' "$majors"

say 'pg_waldump of these majors'
waldumps=$(tests/pg-waldump.sh "${offline[@]}") || stop 'pg_waldump cannot be looked for: see above'
printf '%s\n' "$waldumps"

failed=()
# Runs a check, and remembers it where it fails.
check() {
  say "$*"
  "$@" </dev/null || failed+=("$*")
}
check cargo fmt --check
check cargo clippy --all-targets -- -D warnings
log=$(mktemp) || stop 'no temporary file can be made'
trap 'rm -f "$log"' EXIT
# They wait for servers and disks more than they compute.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((($(nproc) * 3 + 1) / 2))}
run_tests() { cargo test 2>&1 | tee "$log"; }
check run_tests

say "summary, after $SECONDS s"
skipped=$(
  printf '%s\n' "$majors" | sed -n 's/^\([0-9]*\)\t\t\(.*\)/SKIPPED: PostgreSQL \1: \2/p'
  printf '%s\n' "$waldumps" | sed -n 's/^\([0-9]*\)\t\t\(.*\)/SKIPPED: WAL of \1 against its pg_waldump: \2/p'
  grep '^SKIPPED: ' "$log" | sort -u
)
if [ -n "$skipped" ]; then
  printf '%s\n' "$skipped"
else
  echo 'tested with PostgreSQL 13, 14, 15, 16, 17 and 18; nothing was skipped'
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo 'all passed'
