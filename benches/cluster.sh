# What the scripts beside it make their clusters with, for `source`: in $place, which is removed at the end, as the user
# postgres where they are run by root, since PostgreSQL does not run as root.

bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
place=$(mktemp -d /tmp/walback-bench-XXXXXX)
chmod 755 "$place"
export TZ=UTC PGHOST=$place/server PGPORT=54398 PGUSER=postgres PGDATABASE=postgres

as_postgres() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
fi
trap 'as_postgres "$bin/pg_ctl" -D "$place/server/data" stop -m immediate >"$place/stop" 2>&1 || true; rm -rf "$place"' EXIT

# Directories of these names in $place, of the server's user.
make_places() {
  local name
  for name; do
    mkdir "$place/$name"
    [ "$(id -u)" != 0 ] || chown postgres "$place/$name"
  done
}

# A cluster with page checksums, its own socket, and the settings that come on standard input; and starts it.
make_cluster() {
  as_postgres "$bin/initdb" -D "$place/server/data" -N -U postgres -A trust --no-locale -E UTF8 -k >&2
  {
    printf "%s\n" "listen_addresses = ''" "unix_socket_directories = '$PGHOST'" "port = $PGPORT"
    cat
  } >>"$place/server/data/postgresql.conf"
  as_postgres "$bin/pg_ctl" -D "$place/server/data" -w -l "$place/server/log" start >&2
}

# A segment, compressed into gz, zst and lz4 below a directory: as far as there are programs for it.
pack() {
  local name
  name=$(basename "$1")
  gzip -c "$1" >"$2/gz/$name.gz"
  if command -v zstd >"$place/which"; then zstd -q -c "$1" >"$2/zst/$name.zst"; fi
  if command -v lz4 >"$place/which"; then lz4 -q -c "$1" >"$2/lz4/$name.lz4"; fi
}
