-- name: insert_gap
insert into gaps
    (at, journal, process, model, version, reason, frames, records, executed, flagged, first_at, last_at, segment,
    position, detail)
values (clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: list_gaps
select reason, model, version, sum(records)::bigint as records, count(*) as gaps, max(at) as last,
    (array_agg(detail order by at desc) filter (where detail is not null))[1] as detail
from gaps
where at > now() - make_interval(days => $1)
group by reason, model, version
order by last desc, reason;
