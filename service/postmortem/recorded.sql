-- Recorded samples with what was answered to them.

-- name: model_versions
select id, version, weights_sha256, manifest::text as manifest from model_versions where name = $1 order by version, id;

-- name: answered_rows
-- How many rows of the window each version answered.
select p.version_id, count(*) as rows
from predictions p
where p.version_id = any ($1::int[]) and p.at >= $2 and p.at < $3
group by p.version_id;

-- name: issues_decided
-- What is open or resolved of some issues. One that was merged since it was read is part of another, which is asked in its place.
select i.id, w.id as whole, w.state
from issues i
join issues w on w.id = coalesce(i.merged_into, i.id)
where i.id = any ($1::bigint[]) and w.state in ('unresolved', 'resolved');

-- name: next_samples
-- The id is a UUIDv7, so its order is that of (at, id), and it has an index that `at` has not.
select id from samples where model = $1 and at >= $2 and at < $3 and id >= $4 and id < $5 order by id limit $6;

-- name: next_labelled
select distinct sample_id as id from labels where sample_id >= $1 and sample_id < $2 order by 1 limit $3;

-- name: next_of_issue
select distinct sample_id as id
from outliers
where issue_id = $1 and at >= $2 and at < $3 and sample_id >= $4 and sample_id < $5
order by 1
limit $6;

-- name: read_samples
-- Of samples that are named, so that a page takes as long as it is large, whatever comes after it.
select s.id, s.inputs::text as inputs, array_send(s.vector) as vector, s.tensors, s.tags::text as tags, s.incl_prob,
    s.caller, p.version_id, p.role, p.process, p.label, p.confidence, p.value, p.p_value, p.queue_us, p.infer_us, p.labels, p.confidences,
    case when $14 then array_send(p.outputs) end as outputs,
    case when $14 then p.output_tensors end as output_tensors,
    o.sample_id is not null as outlier, o.issue_id,
    case
        when $23::bigint[] is not null and s.id in (
            select x.sample_id from outliers x
            where x.at >= $2 and x.at < $3 and x.sample_id = any ($16) and x.issue_id = any ($23)
        ) then 'of an issue that is left out'
        when $24 and s.id in (
            select x.sample_id from outliers x where x.at >= $2 and x.at < $3 and x.sample_id = any ($16)
        ) then 'outliers'
    end as unwanted,
    t.sample_id is not null as labelled, t.label as true_label, t.value as true_value, t.labels as true_labels,
    t.source as true_source
from samples s
-- The window and the ids once more on each side of the joins: else every page would read the other days, and all of this one.
left join predictions p on p.sample_id = s.id and p.at = s.at and p.version_id = any ($9::int[])
    and p.at >= $2 and p.at < $3 and p.sample_id = any ($16::uuid[])
-- One by one: beside the id that is looked for, all the ids would be gone through for each.
left join lateral (
    select o.sample_id, o.issue_id
    from outliers o
    where o.sample_id = s.id and o.at = s.at and o.version_id = p.version_id and o.at >= $2 and o.at < $3
    limit 1
) o on true
left join lateral (
    select l.sample_id, l.label, l.value, l.labels, l.source
    from labels l
    where l.sample_id = s.id
        and ($25::text[] is null or l.source = any ($25)) and ($26::text[] is null or l.source <> all ($26))
    order by l.labelled_at desc, l.source
    limit 1
) t on true
where s.model = $1 and s.at >= $2 and s.at < $3 and s.id = any ($16::uuid[])
    -- Not by the index of tags: all of a tag's samples would be looked up for every page.
    and ($4::text is null or (s.tags @> $4::text::jsonb) is true)
    and ($5::bigint is null or p.version_id in (select v.id from model_versions v where v.name = $1 and v.version = $5))
    and ($6::text is null or p.label = $6 or $6 = any (p.labels))
    and ($7::text is null or s.caller = $7)
    and ($8::text is null or p.process = $8)
    and (p.version_id is not null or not $10)
    and (t.sample_id is not null or not $11)
    and ($12::bigint is null or o.issue_id = $12)
    -- What no sample may have; one that has nothing of the kind is meant.
    and ($18::text[] is null or not coalesce(s.tags @> any ($18::text[]::jsonb[]), false))
    and ($19::bigint[] is null or p.version_id is null
        or p.version_id not in (select v.id from model_versions v where v.name = $1 and v.version = any ($19)))
    and ($20::text[] is null or not coalesce(p.label = any ($20), p.labels && $20, false))
    and ($21::text[] is null or not coalesce(s.caller = any ($21), false))
    and ($22::text[] is null or not coalesce(p.process = any ($22), false))
    -- After (id, version): a sample that several versions answered has a row for each.
    and (s.id > $13 or coalesce(p.version_id, 0) > $15)
order by s.id, p.version_id
limit $17;
