-- Rows of a short time: all bad ones, or a part where there are too many, and a part of the others that is the same each time.

-- name: find_samples
select s.id
from samples s
where s.model = $1 and s.at >= $2 and s.at < $3
    and get_byte(uuid_send(s.id), 11) * 256 + get_byte(uuid_send(s.id), 10) < $4::int;

-- name: find_outliers
select o.sample_id as id
from outliers o
where o.version_id = any ($1::int[]) and o.at >= $2 and o.at < $3
    and get_byte(uuid_send(o.sample_id), 11) * 256 + get_byte(uuid_send(o.sample_id), 10) < $4::int;

-- name: find_answers
select p.sample_id as id
from predictions p
where p.version_id = any ($1::int[]) and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
    and ($5::float8 is null or p.queue_us + p.infer_us > $5)
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and get_byte(uuid_send(p.sample_id), 11) * 256 + get_byte(uuid_send(p.sample_id), 10) < $4::int;

-- name: find_labelled
select distinct l.sample_id as id
from labels l
where l.sample_id >= first_id($1) and l.sample_id < first_id($2::timestamptz + interval '1 ms')
    and get_byte(uuid_send(l.sample_id), 11) * 256 + get_byte(uuid_send(l.sample_id), 10) < $3::int;

-- name: some_inputs
select s.inputs::text as inputs, array_send(s.vector) as vector, s.tensors
from samples s
where s.model = $1 and s.at >= $2 and s.at < $3 and s.id >= $4 and s.id < $5
order by s.id
limit 4;

-- name: draw
-- Beside refused calls, of which no input is recorded, those of the others are not looked at.
select s.id, case when $11 <> 'refusals' then s.inputs::text end as inputs,
    case when $11 <> 'refusals' then array_send(s.vector) end as vector, case when $11 <> 'refusals' then s.tensors end as tensors,
    s.tags::text as tags, s.caller, s.incl_prob,
    p.version_id, p.role, p.process, p.label, p.p_value, p.bucket, p.queue_us, o.issue_id,
    l.label as true_label, l.source as label_source, extract(epoch from l.labelled_at - s.at)::float8 as label_delay_s, b.bad
from samples s
left join predictions p on p.sample_id = s.id and p.at = s.at and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
left join outliers o on $11 = 'outliers' and o.sample_id = s.id and o.at = s.at and o.version_id = p.version_id
    and o.at >= $2 and o.at < $3
left join (
    select distinct on (sample_id) sample_id, label, value, labels, source, labelled_at
    from labels
    where $11 = 'wrong' and ($23::uuid[] is not null or sample_id >= $14 and sample_id < $15)
        and ($23 is null or sample_id = any ($23))
    order by sample_id, labelled_at desc, ctid desc
) l on l.sample_id = s.id
cross join lateral (
    select case $11
        when 'outliers' then o.sample_id is not null
        when 'errors' then p.sample_id is null
        when 'slow' then p.queue_us + p.infer_us > $12::float8
        when 'wrong' then case
            when l.value is not null then abs(l.value - p.value) > $12::float8
            else coalesce(not is_right(p.label, p.labels, l.label, l.labels), false)
        end
        when 'label' then p.label = $13 or $13 = any (p.labels)
        else false
    end as bad
) b
where s.model = $1 and s.at >= $2 and s.at < $3
    and ($23::uuid[] is null or s.id = any ($23))
    and ($4::text is null or (s.tags @> $4::text::jsonb) is true)
    and ($5::bigint is null or p.version_id = any ($10::int[]))
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and ($7::text is null or s.caller = $7)
    and ($8::text is null or p.process = $8)
    and ($18::text[] is null or not coalesce(s.tags @> any ($18::text[]::jsonb[]), false))
    and ($19::int[] is null or p.version_id is null or p.version_id <> all ($19))
    and ($20::text[] is null or not coalesce(p.label = any ($20), p.labels && $20, false))
    and ($21::text[] is null or not coalesce(s.caller = any ($21), false))
    and ($22::text[] is null or not coalesce(p.process = any ($22), false))
    and (p.version_id is null or p.version_id = any ($9::int[]))
    and (p.sample_id is not null or $11 in ('errors', 'refusals'))
    and (l.sample_id is not null or $11 <> 'wrong')
    -- Before rows are joined, where few are drawn.
    and get_byte(uuid_send(s.id), 11) * 256 + get_byte(uuid_send(s.id), 10) < greatest($16::int, $17::int)
    -- Not the last four bytes: the policy `sampled` keeps rows by them, and a share of what it kept would be a biased one.
    and get_byte(uuid_send(s.id), 11) * 256 + get_byte(uuid_send(s.id), 10) < case when b.bad then $16::int else $17::int end;

-- name: draw_refusals
select r.at, r.tags::text as tags, r.code, r.kind, r.pointer, r.excerpt
from rejections r
where r.model = $1 and r.at >= $2 and r.at < $3 and ($4::text is null or (r.tags @> $4::text::jsonb) is true)
    and ($6::text[] is null or not coalesce(r.tags @> any ($6::text[]::jsonb[]), false))
    and (hashtext(coalesce(r.request_id, r.at::text)) & 65535) < $5::int;
