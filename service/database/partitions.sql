-- name: make_partitions
select hoverboard.make_partitions($1, $2);

-- name: drop_partitions
select partition, rows from hoverboard.drop_partitions($1);

-- name: hold_partitions
select pg_advisory_xact_lock_shared(hashtextextended('hoverboard.partitions', 0));
