-- name: insert_replay
insert into replays
    (at, actor, model, incumbent, incumbent_sha256, candidate, candidate_sha256, first_at, last_at, conditions, rows, noise_floor,
    noise_runs, fixed, broken, changed, noise, failed, result)
values (
    clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14, $15, $16, $17, $18::text::jsonb
)
returning id;
