#!/usr/bin/env bash
# Makes what benches/fetch.rs replays, with PostgreSQL 15: the data directory of a base backup in DIRECTORY/base, the WAL
# from there up to the restore point “end” in DIRECTORY/plain, and the same compressed in DIRECTORY/gz, zst and lz4. Where
# the restore point ends is in DIRECTORY/end.
#
#   benches/make-replay.sh DIRECTORY
set -euo pipefail

target=$1
. "$(dirname "$0")/cluster.sh"
make_places archive server base

make_cluster <<CONF
archive_mode = on
archive_command = 'cp %p $place/archive/%f'
synchronous_commit = off
shared_buffers = '512MB'
max_wal_size = '8GB'
checkpoint_timeout = '30min'
CONF
as_postgres "$bin/pgbench" -i -s 10 -q >&2
as_postgres "$bin/pg_basebackup" -D "$place/base" -X none -c fast --no-manifest >&2
as_postgres "$bin/pgbench" -c 4 -j 2 -t 20000 -n >&2
as_postgres "$bin/pgbench" -N -c 4 -j 2 -t 20000 -n >&2
for round in 1 2 3 4; do
  as_postgres "$bin/psql" -q -v t="t$round" -v u="u$round" >&2 <<'SQL'
create table :t (id int, a text, b timestamptz);
insert into :t select g, md5(g::text), now() from generate_series(1, 500000) g;
create index on :t (id);
create index on :t (a);
delete from :t where id % 2 = 0;
update :t set b = clock_timestamp() where id < 150000;
create table :u as select * from :t;
vacuum :t;
delete from :u;
SQL
done
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
  pack "$file" "$target.part"
done
chmod a+r "$target.part"/{plain,gz,zst,lz4}/*
mv "$target.part" "$target"
