#!/usr/bin/env bash
# Makes the archive that benches/wal_scan.rs reads, with PostgreSQL 15: DIRECTORY/plain with all segments, those in
# which transactions are short and many in DIRECTORY/commits, and those of bulk work in DIRECTORY/bulk; the same
# compressed in DIRECTORY/gz, zst and lz4, as `archive_command` mostly does it.
#
#   benches/make-wal.sh DIRECTORY
set -euo pipefail

target=$1
. "$(dirname "$0")/cluster.sh"
make_places archive server

segment() { as_postgres "$bin/psql" -qAtc 'select pg_walfile_name(pg_current_wal_lsn())'; }
switch() { as_postgres "$bin/psql" -qAtc 'select pg_switch_wal()' -c checkpoint >&2; }

make_cluster <<CONF
archive_mode = on
archive_command = 'cp %p $place/archive/%f'
fsync = off
synchronous_commit = off
shared_buffers = '512MB'
max_wal_size = '8GB'
checkpoint_timeout = '30min'
CONF
as_postgres "$bin/pgbench" -i -s 20 -q >&2
switch
commits=$(segment)
as_postgres "$bin/pgbench" -c 4 -j 2 -t 30000 -n >&2
as_postgres "$bin/pgbench" -N -c 4 -j 2 -t 35000 -n >&2
switch
bulk=$(segment)
as_postgres "$bin/psql" -q >&2 <<'SQL'
create table t (id int, a text, b timestamptz);
insert into t select g, md5(g::text), now() from generate_series(1, 700000) g;
create index on t (id);
create index on t (a);
delete from t where id % 2 = 0;
update t set b = clock_timestamp() where id < 200000;
create table u as select * from t;
vacuum t;
delete from u;
truncate u;
drop table t;
create table v (id int, a text);
copy v from program 'seq -f "%.0f	a row that was loaded from a file" 1 600000';
delete from v where id > 100;
SQL
switch
as_postgres "$bin/pg_ctl" -D "$place/server/data" -w stop -m fast >&2

rm -rf "$target.part"
mkdir -p "$target.part"/{plain,commits,bulk,gz,zst,lz4}
for file in "$place"/archive/????????????????????????; do
  name=$(basename "$file")
  cp "$file" "$target.part/plain/$name"
  if [[ ! $name < $bulk ]]; then
    ln "$target.part/plain/$name" "$target.part/bulk/$name"
  elif [[ ! $name < $commits ]]; then
    ln "$target.part/plain/$name" "$target.part/commits/$name"
  fi
  pack "$file" "$target.part"
done
mv "$target.part" "$target"
