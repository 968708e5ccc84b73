#!/usr/bin/env bash
# Makes what benches/fetch.rs replays, with PostgreSQL 15: the data directory of a base backup in DIRECTORY/base, the WAL
# from there up to the restore point “end” in DIRECTORY/plain, and the same compressed in DIRECTORY/gz, zst and lz4. Where
# the restore point ends is in DIRECTORY/end.
#
#   benches/make-replay.sh DIRECTORY
set -euo pipefail

target=$1
bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
place=$(mktemp -d /tmp/walback-bench-XXXXXX)
chmod 755 "$place"
mkdir "$place/archive" "$place/server" "$place/base"
export TZ=UTC PGHOST=$place/server PGPORT=54398 PGUSER=postgres PGDATABASE=postgres

# PostgreSQL does not run as root.
as_postgres() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  chown postgres "$place/archive" "$place/server" "$place/base"
  as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
fi
trap 'as_postgres "$bin/pg_ctl" -D "$place/server/data" stop -m immediate >"$place/stop" 2>&1 || true; rm -rf "$place"' EXIT

as_postgres "$bin/initdb" -D "$place/server/data" -N -U postgres -A trust --no-locale -E UTF8 -k >&2
cat >>"$place/server/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$PGHOST'
port = $PGPORT
archive_mode = on
archive_command = 'cp %p $place/archive/%f'
synchronous_commit = off
shared_buffers = '512MB'
max_wal_size = '8GB'
checkpoint_timeout = '30min'
CONF
as_postgres "$bin/pg_ctl" -D "$place/server/data" -w -l "$place/server/log" start >&2
as_postgres "$bin/pgbench" -i -s 10 -q >&2
as_postgres "$bin/pg_basebackup" -D "$place/base" -X none -c fast --no-manifest >&2
as_postgres "$bin/pgbench" -c 4 -j 2 -t 20000 -n >&2
as_postgres "$bin/pgbench" -N -c 4 -j 2 -t 20000 -n >&2
as_postgres "$bin/psql" -q >&2 <<'SQL'
create table t (id int, a text, b timestamptz);
insert into t select g, md5(g::text), now() from generate_series(1, 500000) g;
create index on t (id);
create index on t (a);
delete from t where id % 2 = 0;
update t set b = clock_timestamp() where id < 150000;
create table u as select * from t;
vacuum t;
delete from u;
SQL
end=$(as_postgres "$bin/psql" -qAtc "select pg_create_restore_point('end')")
as_postgres "$bin/psql" -qAtc 'select pg_switch_wal()' >&2
as_postgres "$bin/pg_ctl" -D "$place/server/data" -w stop -m fast >&2

rm -rf "$target.part"
mkdir -p "$target.part"/{plain,gz,zst,lz4}
cp -a "$place/base" "$target.part/base"
printf '%s' "$end" >"$target.part/end"
for file in "$place"/archive/????????????????????????; do
  name=$(basename "$file")
  cp "$file" "$target.part/plain/$name"
  gzip -c "$file" >"$target.part/gz/$name.gz"
  if command -v zstd >"$place/which"; then zstd -q -c "$file" >"$target.part/zst/$name.zst"; fi
  if command -v lz4 >"$place/which"; then lz4 -q -c "$file" >"$target.part/lz4/$name.lz4"; fi
done
chmod a+r "$target.part"/{plain,gz,zst,lz4}/*
mv "$target.part" "$target"
