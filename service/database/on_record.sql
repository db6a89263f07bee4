-- What is still on record of samples that somebody has read.

-- name: gone
-- Looked up one by one: joined, a whole day would be read for some thousands of rows.
select w.id, exists (select from erasures e where e.sample_id = w.id)
    or exists (select from erasures e where e.kind = 'age' and e.model is null and sample_at(w.id) < e.before) as erased
from unnest($1::uuid[]) as w (id)
left join lateral (
    select true as found from samples s where s.id = w.id and s.at between $2 and $3 limit 1
) there on true
where there.found is null;

-- name: last_erasure
select coalesce(max(id), 0) from erasures;
