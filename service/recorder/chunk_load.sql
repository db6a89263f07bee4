-- name: insert_quarantine
insert into quarantine (at, journal, segment, position, seq, records, file, sqlstate, error)
values (clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8);
