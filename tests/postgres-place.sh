# shellcheck shell=bash
# Where the tests' PostgreSQL programs are kept, and who runs them. For tests/postgres-majors.sh and tests/pg-waldump.sh,
# which source it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
target=$root/target/postgres

# Runs a command as the user that the tests' servers run as.
as_server() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else
    "$@"
  fi
}

# Where root has to run servers as postgres, that user has to be there.
require_server_user() {
  if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
    echo 'there is no user postgres, as which root could run servers: install PostgreSQL first' >&2
    return 1
  fi
}

# Makes target/postgres, reachable for the servers' user.
#
# Where root's checkout lies in a directory that the user postgres may not enter, it becomes a link to a directory below
# /var/tmp, because PostgreSQL refuses to run as root and the tests run it as that user.
make_target() {
  mkdir -p "$root/target"
  [ -e "$target" ] || {
    rm -f "$target"
    mkdir "$target"
  }
  (cd / && as_server test -x "$target") && return 0
  local elsewhere=/var/tmp/walback-postgres
  mkdir "$elsewhere" 2>/dev/null || true
  # Others may make directories in /var/tmp: programs are run only from our own.
  if [ -L "$elsewhere" ] || [ ! -O "$elsewhere" ]; then
    echo "$elsewhere belongs to somebody else" >&2
    return 1
  fi
  rm -rf "$target"
  ln -s "$elsewhere" "$target"
}
