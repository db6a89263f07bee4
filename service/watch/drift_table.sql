-- The references of drift, the window that each version fills, and what the full ones said.

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
