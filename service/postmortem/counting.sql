-- How many rows there were and how many were bad, by time. All rows are counted, each for 1 / incl_prob.
-- A shadow's answers reached nobody, so they are never what a question is about.
-- `is true` keeps tags from their index: a statement counts a short time, and a frequent tag would be looked up for all times in each.

-- name: models
select name, count(*) as versions from model_versions group by name order by name;

-- name: recorded_from
select s.at from samples s where s.model = $1 order by s.id limit 1;

-- name: recorded_until
select s.at from samples s where s.model = $1 order by s.id desc limit 1;

-- name: last_between
-- The ids bound what is read, `at` the days that are looked into.
select s.at
from samples s
where s.model = $1 and s.at >= $2 and s.at < $3 and s.id >= $4 and s.id < $5
order by s.id desc
limit 1;

-- name: raised_alarm
select a.onset_at, a.raised_at
from alarms a
join model_versions v on v.id = a.version_id
where v.name = $1 and a.state = 'raised' and ($2::bigint is null or v.version = $2)
-- The first one: what a later version's alarm would take for usual is the incident of the first.
order by coalesce(a.onset_at, a.raised_at)
limit 1;

-- name: slow_above
-- The slowest hundredth of the usual time, by a draw of its answers: in the middle one of its twelve parts, since an incident may
-- be within it.
select percentile_disc(0.5) within group (order by slowest)
from (
    select percentile_disc(0.99) within group (order by p.queue_us + p.infer_us)::float8 as slowest
    from predictions p
    where p.version_id = any ($1::int[]) and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
        and get_byte(uuid_send(p.sample_id), 11) < 26
    group by floor(12 * extract(epoch from p.at - $2) / extract(epoch from $3 - $2))
) parts;

-- name: wrong_above
-- Of a regression: the worst tenth of the errors in the usual time.
select percentile_disc(0.9) within group (order by abs(l.value - p.value))::float8
from labels l
join predictions p on p.sample_id = l.sample_id and p.at >= $2 and p.at < $3 and p.version_id = any ($1::int[])
where l.sample_id >= $4 and l.sample_id < $5 and l.value is not null and p.role is distinct from 'shadow';

-- name: count_samples
select date_bin($6::interval, s.at, timestamptz 'epoch') as bin, sum(1 / s.incl_prob)::float8 as rows,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as variance, count(*) as recorded
from samples s
where s.model = $1 and s.at >= $2 and s.at < $3
    and ($4::text is null or (s.tags @> $4::text::jsonb) is true)
    and ($5::text is null or s.caller = $5)
    and ($7::text[] is null or not coalesce(s.tags @> any ($7::text[]::jsonb[]), false))
    and ($8::text[] is null or not coalesce(s.caller = any ($8), false))
group by 1;

-- name: count_outliers
select date_bin($11::interval, p.at, timestamptz 'epoch') as bin, sum(1 / s.incl_prob)::float8 as rows,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as variance, count(*) as recorded
from outliers o
join predictions p on p.sample_id = o.sample_id and p.at = o.at and p.version_id = o.version_id
    and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
join samples s on s.id = p.sample_id and s.at = p.at and s.at >= $2 and s.at < $3
where o.version_id = any ($9::int[]) and o.at >= $2 and o.at < $3
    and s.model = $1 and ($4::text is null or (s.tags @> $4::text::jsonb) is true) and ($7::text is null or s.caller = $7)
    and ($5::bigint is null or p.version_id = any ($10::int[]))
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and ($8::text is null or p.process = $8)
    and ($12::text[] is null or not coalesce(s.tags @> any ($12::text[]::jsonb[]), false))
    and ($13::int[] is null or p.version_id is null or p.version_id <> all ($13))
    and ($14::text[] is null or not coalesce(p.label = any ($14), p.labels && $14, false))
    and ($15::text[] is null or not coalesce(s.caller = any ($15), false))
    and ($16::text[] is null or not coalesce(p.process = any ($16), false))
group by 1;

-- name: count_answers
-- All of them, or those that are slow, or have a label.
select date_bin($11::interval, p.at, timestamptz 'epoch') as bin, sum(1 / s.incl_prob)::float8 as rows,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as variance, count(*) as recorded
from predictions p
join samples s on s.id = p.sample_id and s.at = p.at and s.at >= $2 and s.at < $3
where p.version_id = any ($9::int[]) and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
    and s.model = $1 and ($4::text is null or (s.tags @> $4::text::jsonb) is true) and ($7::text is null or s.caller = $7)
    and ($5::bigint is null or p.version_id = any ($10::int[]))
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and ($8::text is null or p.process = $8)
    and ($12::float8 is null or p.queue_us + p.infer_us > $12)
    and ($13::text is null or p.label = $13 or $13 = any (p.labels))
    and ($14::text[] is null or not coalesce(s.tags @> any ($14::text[]::jsonb[]), false))
    and ($15::int[] is null or p.version_id is null or p.version_id <> all ($15))
    and ($16::text[] is null or not coalesce(p.label = any ($16), p.labels && $16, false))
    and ($17::text[] is null or not coalesce(s.caller = any ($17), false))
    and ($18::text[] is null or not coalesce(p.process = any ($18), false))
group by 1;

-- name: count_errors
-- With the ids of a part of them: to find them once more would take as long again.
select date_bin($6::interval, s.at, timestamptz 'epoch') as bin, sum(1 / s.incl_prob)::float8 as rows,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as variance, count(*) as recorded,
    array_agg(s.id) filter (where get_byte(uuid_send(s.id), 11) * 256 + get_byte(uuid_send(s.id), 10) < $9::int) as ids
from samples s
where s.model = $1 and s.at >= $2 and s.at < $3
    and ($4::text is null or (s.tags @> $4::text::jsonb) is true)
    and ($5::text is null or s.caller = $5)
    and ($7::text[] is null or not coalesce(s.tags @> any ($7::text[]::jsonb[]), false))
    and ($8::text[] is null or not coalesce(s.caller = any ($8), false))
    and not exists (
        select from predictions p
        where p.sample_id = s.id and p.at = s.at and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
    )
group by 1;

-- name: count_refusals
select date_bin($5::interval, r.at, timestamptz 'epoch') as bin, count(*)::float8 as rows, 0::float8 as variance,
    count(*) as recorded
from rejections r
where r.model = $1 and r.at >= $2 and r.at < $3 and ($4::text is null or (r.tags @> $4::text::jsonb) is true)
    and ($6::text[] is null or not coalesce(r.tags @> any ($6::text[]::jsonb[]), false))
group by 1;

-- name: count_labelled
-- Only what somebody labelled can be wrong, and of one sample the last label holds.
select date_bin($11::interval, p.at, timestamptz 'epoch') as bin, sum(1 / s.incl_prob)::float8 as all_rows,
    sum(1 / s.incl_prob) filter (where w.wrong)::float8 as rows,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as all_variance,
    sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob)) filter (where w.wrong)::float8 as variance, count(*) as recorded,
    count(*) filter (where w.wrong) as recorded_bad
from (
    select distinct on (sample_id) sample_id, label, value, labels
    from labels
    where sample_id >= first_id($2) and sample_id < first_id($3::timestamptz + interval '1 ms')
    order by sample_id, labelled_at desc, ctid desc
) l
cross join lateral (
    select * from predictions
    where sample_id = l.sample_id and at >= $2 and at < $3 and version_id = any ($9::int[]) and role is distinct from 'shadow'
    limit 1
) p
cross join lateral (
    select incl_prob from samples
    where id = p.sample_id and at = p.at and at >= $2 and at < $3 and model = $1
        and ($4::text is null or (tags @> $4::text::jsonb) is true) and ($7::text is null or caller = $7)
        and ($13::text[] is null or not coalesce(tags @> any ($13::text[]::jsonb[]), false))
        and ($16::text[] is null or not coalesce(caller = any ($16), false))
    limit 1
) s
cross join lateral (
    select case
        when l.value is not null then abs(l.value - p.value) > $12::float8
        else not is_right(p.label, p.labels, l.label, l.labels)
    end as wrong
) w
where ($5::bigint is null or p.version_id = any ($10::int[]))
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and ($8::text is null or p.process = $8)
    and ($14::int[] is null or p.version_id is null or p.version_id <> all ($14))
    and ($15::text[] is null or not coalesce(p.label = any ($15), p.labels && $15, false))
    and ($17::text[] is null or not coalesce(p.process = any ($17), false))
group by 1;

-- name: events
select at, kind, subject, version, detail
from events
where at >= $2 and at < $3 and (model is null or model = $1)
order by at
limit 2000;

-- name: gaps
select reason, count(*) as gaps, sum(records)::bigint as records
from gaps
where coalesce(first_at, at) >= $2 and coalesce(first_at, at) < $3 and (model is null or model = $1) and reason <> 'duplicate'
group by reason
order by reason;
