-- What the recorder asks Postgres about alarms and drift, in the transaction that moves a cursor.

-- name: find_watched
select name, version, weights_sha256, manifest::text as manifest from model_versions where id = $1;

-- name: find_numbered
-- The latest version of each name and number: the one that a count without checksum belongs to.
select distinct on (v.name, v.version) v.id, v.name, v.version
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

-- name: find_baseline
select feature as name, side, tensor, reading, element, missing, cuts, categories, counts
from baselines
where version_id = $1
order by position;

-- name: insert_baseline
insert into baselines
    (version_id, position, feature, side, tensor, reading, element, missing, cuts, categories, counts, bins)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (version_id, position) do nothing;

-- name: begin_window
insert into drift_state (version_id, number, rows, weight, weight_squared, counts, updated_at)
values ($1, 1, 0, 0, 0, $2, now())
on conflict (version_id) do nothing;

-- name: lock_window
select * from drift_state where version_id = $1 for update;

-- name: write_window
update drift_state
set number = $2, rows = $3, weight = $4, weight_squared = $5, first_at = $6, last_at = $7, counts = $8, updated_at = now()
where version_id = $1;

-- name: insert_findings
insert into drift_windows
    (version_id, closed_at, number, first_at, last_at, rows, feature, n, p_value, q_value, js, drifted, counts)
select $1, $2, number, w.first_at, w.last_at, w.rows, f.feature, f.n, f.p_value, f.q_value, f.js, f.drifted, f.counts::jsonb
from unnest($3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::int[]) as w (number, first_at, last_at, rows)
join unnest($7::bigint[], $8::text[], $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::bool[], $14::text[])
    as f (number, feature, n, p_value, q_value, js, drifted, counts) using (number);

-- name: latest_findings
-- The last window of each version.
select v.name as model, v.version, w.feature, w.js, w.drifted
from (select version_id, max(number) as number from drift_windows group by version_id) latest
join drift_windows w using (version_id, number)
join model_versions v on v.id = w.version_id
order by v.id;

-- name: expire_windows
delete from drift_windows where closed_at < $1;
