-- Erasures and their tombstones.
-- `hoverboard.erasing` is an advisory lock: drains share it (`share_erasing`), an erasure has it alone, so that no chunk that
-- cannot see the tombstone is committed after the tables were searched.

-- name: lock_erasing
select pg_advisory_xact_lock(hashtextextended('hoverboard.erasing', 0));

-- name: latest_erasure
select id, at from erasures order by id desc limit 1;

-- name: erasure_time
-- The later of both clocks, so that what was answered before by either is meant; a wild clock here counts for a minute.
select greatest(clock_timestamp(), least($1::timestamptz, clock_timestamp() + interval '1 minute'));

-- name: recorded_models
-- Names of the models that anything was recorded of. Refused calls may name others.
select coalesce(array_agg(distinct name order by name), '{}') from model_versions;

-- name: insert_erasure
insert into erasures (at, kind, sample_id, tag_key, tag_digest, model, before, actor, reason, rows_erased)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)
returning id;

-- name: mentions
-- Texts that people wrote and that hold $1.
select place, id::text, text
from (
    select 'issue_events' as place, id, reason as text from issue_events
    union all
    select 'alarm_events', id, reason from alarm_events
    union all
    select 'erasures', id, reason from erasures where reason not like 'part of erasure %'
) as written
where position($1::text in text) > 0
order by place, id
limit 1000;

-- name: count_erased
update erasures set rows_erased = rows_erased + $2 where id = $1;

-- name: erasures_since
-- After number $1: those of more than one sample, and those of the samples $2.
select * from erasures where id > $1 and (kind <> 'sample' or sample_id = any ($2::uuid[])) order by id;

-- name: erase_samples
with gone as (
    delete from samples s using unnest($1::uuid[]) as ids (id) where s.id = ids.id returning 1
), predicted as (
    delete from predictions p using unnest($1::uuid[]) as ids (id) where p.sample_id = ids.id returning 1
), flagged as (
    delete from outliers o using unnest($1::uuid[]) as ids (id) where o.sample_id = ids.id returning 1
), seen as (
    delete from features f using unnest($1::uuid[]) as ids (id) where f.sample_id = ids.id returning 1
), labelled as (
    delete from labels l using unnest($1::uuid[]) as ids (id) where l.sample_id = ids.id returning 1
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from seen) as features,
    (select count(*) from labelled) as labels, 0::bigint as rejections;

-- name: erase_tagged
-- Of the tag $2 with the value $3; $7 and $8 bound what is searched, null for no bound. Each sample that goes leaves a
-- tombstone of its own: what comes later of it names its id, and no tag.
with gone as (
    delete from samples s
    where s.tags @> jsonb_build_object($2::text, $3::text) and ($4::text is null or s.model = $4)
        and s.at between coalesce($7::timestamptz, '-infinity') and coalesce($8::timestamptz, 'infinity')
    returning s.id, s.at
), predicted as (
    delete from predictions p using gone where p.sample_id = gone.id and p.at = gone.at returning 1
), flagged as (
    delete from outliers o using gone where o.sample_id = gone.id and o.at = gone.at returning 1
), seen as (
    delete from features f using gone where f.sample_id = gone.id and f.at = gone.at returning 1
), labelled as (
    delete from labels l using gone where l.sample_id = gone.id returning 1
), refused as (
    delete from rejections r
    where r.tags @> jsonb_build_object($2::text, $3::text) and ($4::text is null or r.model = $4)
        and r.at between coalesce($7::timestamptz, '-infinity') and coalesce($8::timestamptz, 'infinity')
    returning 1
), tombstones as (
    insert into erasures (at, kind, sample_id, actor, reason, rows_erased)
    select $5, 'sample', gone.id, $6, 'part of erasure ' || $1::bigint, 0 from gone
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from seen) as features,
    (select count(*) from labelled) as labels,
    (select count(*) from refused) as rejections;

-- name: erase_older
-- Before $1, of model $2 or of all; $3 and $4 bound what is searched. Labels are found by the time in their sample's id,
-- or where only one model is meant, by the samples that go: these leave a tombstone each, for labels still in a journal.
with gone as (
    delete from samples s
    where s.at < $1 and s.at between $3 and $4 and ($2::text is null or s.model = $2)
    returning s.id
), predicted as (
    delete from predictions p
    where p.at < $1 and p.at between $3 and $4
        and ($2::text is null or p.version_id in (select id from model_versions where name = $2))
    returning 1
), flagged as (
    delete from outliers o
    where o.at < $1 and o.at between $3 and $4
        and ($2::text is null or o.version_id in (select id from model_versions where name = $2))
    returning 1
), seen as (
    delete from features f
    where f.at < $1 and f.at between $3 and $4
        and ($2::text is null or f.version_id in (select id from model_versions where name = $2))
    returning 1
), labelled as (
    delete from labels l
    where case
        when $2::text is null then sample_at(l.sample_id) < $1 and l.labelled_at between $3 and $4
        else l.sample_id in (select id from gone)
    end
    returning 1
), refused as (
    delete from rejections r
    where r.at < $1 and r.at between $3 and $4 and ($2::text is null or r.model = $2)
    returning 1
), tombstones as (
    insert into erasures (at, kind, sample_id, actor, reason, rows_erased)
    select $6, 'sample', gone.id, $7, 'part of erasure ' || $5::bigint, 0 from gone where $2::text is not null
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from seen) as features,
    (select count(*) from labelled) as labels,
    (select count(*) from refused) as rejections;
