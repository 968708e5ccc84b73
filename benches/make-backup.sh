#!/usr/bin/env bash
# Makes the base backup that benches/unpack.rs unpacks, with PostgreSQL 15, of a cluster of about 1.4 GB: DIRECTORY/plain
# with base.tar and its manifest (CRC-32C), the same compressed in DIRECTORY/gz, zst and lz4, and the WAL that it needs in
# DIRECTORY/wal.
#
#   benches/make-backup.sh DIRECTORY
set -euo pipefail

target=$1
. "$(dirname "$0")/cluster.sh"
make_places archive server backup

make_cluster <<CONF
fsync = off
wal_level = replica
synchronous_commit = off
shared_buffers = '512MB'
max_wal_size = '1GB'
CONF
as_postgres "$bin/pgbench" -i -I dtgvp -s 50 -q >&2
# What pgbench fills its rows with compresses far better than what people have.
as_postgres "$bin/psql" -q >&2 <<'SQL'
create table t as select g as id, md5(g::text) as a, md5((g + 1)::text) || repeat('x', 20) as b, now() as c
from generate_series(1, 4500000) g;
create index on t (id);
create index on t (a);
SQL
as_postgres "$bin/psql" -qAtc "alter system set archive_mode = on" \
  -c "alter system set archive_command = 'cp %p $place/archive/%f'" >&2
as_postgres "$bin/pg_ctl" -D "$place/server/data" -w -l "$place/server/log" restart >&2
as_postgres "$bin/pg_basebackup" -D "$place/backup" -Ft -X none -c fast >&2
as_postgres "$bin/psql" -qAtc "select pg_create_restore_point('end')" -c 'select pg_switch_wal()' >&2
as_postgres "$bin/pg_ctl" -D "$place/server/data" -w stop -m fast >&2

rm -rf "$target.part"
mkdir -p "$target.part"/{plain,gz,zst,lz4,wal}
cp "$place"/archive/* "$target.part/wal/"
cp "$place/backup/base.tar" "$target.part/plain/"
for form in plain gz zst lz4; do cp "$place/backup/backup_manifest" "$target.part/$form/"; done
gzip -c "$place/backup/base.tar" >"$target.part/gz/base.tar.gz"
zstd -q -c "$place/backup/base.tar" >"$target.part/zst/base.tar.zst"
lz4 -q -c "$place/backup/base.tar" >"$target.part/lz4/base.tar.lz4"
mv "$target.part" "$target"
