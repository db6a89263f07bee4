-- The alarms of versions: each in one row that is locked, moved on and written back.

-- name: find_numbered
-- The latest version of each name and number: the one that a count without checksum belongs to.
select distinct on (v.name, v.version) v.id, v.name, v.version, v.manifest::text as manifest
from model_versions v
join unnest($1::text[], $2::bigint[]) as asked (name, version) using (name, version)
order by v.name, v.version, v.id desc;

-- name: find_all_numbered
-- Every version of a name and number that has an alarm.
select v.id from model_versions v join alarms a on a.version_id = v.id where v.name = $1 and v.version = $2 order by v.id;

-- name: begin_alarm
insert into alarms
    (version_id, state, bound, rows, flagged, log10_e, recent_rows, recent_flagged, log_sums, log_products, since, updated_at)
values ($1, 'quiet', $2, 0, 0, 0, 0, 0, $3, $4, $5, now())
on conflict (version_id) do nothing;

-- name: lock_alarm
select * from alarms where version_id = $1 for update;

-- name: write_alarm
update alarms
set state = $2, bound = $3, rows = $4, flagged = $5, log10_e = $6, recent_rows = $7, recent_flagged = $8, log_sums = $9,
    log_products = $10, since = $11, raised_at = $12, onset_at = $13, raised_log10_e = $14, raised_rows = $15,
    raised_flagged = $16, reset_at = $17, repeats = $18, counts_since = $19, onset_rows = $20, onset_flagged = $21,
    onset_repeats = $22, updated_at = now()
where version_id = $1;

-- name: insert_alarm_event
insert into alarm_events
    (at, version_id, kind, onset_at, log10_e, rows, flagged, bound, run_length, actor, reason, onset_rows, onset_flagged,
    onset_repeats)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: list_alarms
select v.name as model, v.version, v.weights_sha256, a.*
from alarms a
join model_versions v on v.id = a.version_id
order by v.name, v.version, v.id;
