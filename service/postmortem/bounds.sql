-- name: recorded_days
-- All partitioned tables have the same days; what no day holds is in the default partitions.
select min(day.first) as first, max(day.last) as last
from (
    select to_date(right(c.relname, -length('samples_')), 'YYYY_MM_DD') as day
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'hoverboard.samples'::regclass and c.relname ~ '^samples_\d{4,}_\d{2}_\d{2}$'
) named
cross join lateral (
    select named.day::timestamp at time zone 'UTC' as first, (named.day + 1)::timestamp at time zone 'UTC' as last
) day
union all
select min(at), max(at) + interval '1 second' from samples_default
union all
select min(at), max(at) + interval '1 second' from rejections_default;
