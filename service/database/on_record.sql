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

-- name: share_erasing
select pg_advisory_xact_lock_shared(hashtextextended('hoverboard.erasing', 0));

-- name: forgettable
-- By what replays chose samples where no such sample is on record any more: it names whom they were about.
with chosen as (
    select r.id, r.model, r.first_at, r.last_at, c.key, v.value
    from replays r
    cross join lateral (
        select * from jsonb_each(r.result -> 'where') union all select * from jsonb_each(r.result -> 'unless')
    ) as c (key, value)
    cross join lateral jsonb_array_elements_text(
        case jsonb_typeof(c.value) when 'array' then c.value else jsonb_build_array(c.value) end
    ) as v (value)
    where (c.key = 'caller' or c.key like 'tag.%') and v.value <> $1
)
select id, key, value
from chosen c
where case
    when key = 'caller' then not exists (
        select from samples s where s.model = c.model and s.at >= c.first_at and s.at < c.last_at and s.caller = c.value
    )
    else not exists (
        select from samples s
        where s.model = c.model and s.at >= c.first_at and s.at < c.last_at
            and s.tags @> jsonb_build_object(substr(c.key, 5), c.value)
    )
end;

-- name: kept_replay
select conditions::text as conditions, result::text as result from replays where id = $1 for update;

-- name: change_replay
update replays set conditions = $2::text::jsonb, result = $3::text::jsonb where id = $1;
