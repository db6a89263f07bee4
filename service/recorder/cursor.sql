-- One row a journal: how far it is in Postgres.

-- name: insert_cursor
insert into recorder_cursor
    (journal, process, segment, position, seq, records, gap_generation, executed, recorded, started_at, updated_at)
values ($1, $2, 0, 0, 0, 0, 0, 0, 0, now(), now())
on conflict (journal) do nothing;

-- name: lock_cursor
select * from recorder_cursor where journal = $1 for update;

-- name: read_cursors
select * from recorder_cursor where journal = any ($1::uuid[]);

-- name: move_cursor
update recorder_cursor
set process = $2, segment = $3, position = $4, seq = $5, records = $6, gap_generation = $7, executed = $8, recorded = $9,
    updated_at = now(), finished_at = case when $10 then coalesce(finished_at, now()) end
where journal = $1;
