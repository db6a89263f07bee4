-- What the recorder asks Postgres while it drains and erases.
-- `hoverboard.erasing` is an advisory lock: drains share it, an erasure has it alone, so that no chunk that cannot see
-- the tombstone is committed after the tables were searched.

-- name: share_erasing
select pg_advisory_xact_lock_shared(hashtextextended('hoverboard.erasing', 0));

-- name: lock_erasing
select pg_advisory_xact_lock(hashtextextended('hoverboard.erasing', 0));

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

-- name: find_version
select id, manifest::text as manifest from model_versions where name = $1 and version = $2 and weights_sha256 = $3;

-- name: insert_version
insert into model_versions (name, version, weights_sha256, manifest, parent_id, first_served_at)
values (
    $1, $2, $3, $4::text::jsonb,
    (select id from model_versions where name = $1 and version = $5 order by id desc limit 1),
    $6
)
on conflict (name, version, weights_sha256) do nothing;

-- name: insert_gap
insert into gaps
    (at, journal, process, model, version, reason, frames, records, executed, flagged, first_at, last_at, segment,
    position, detail)
values (clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: list_gaps
select reason, model, version, sum(records)::bigint as records, count(*) as gaps, max(at) as last,
    (array_agg(detail order by at desc) filter (where detail is not null))[1] as detail
from gaps
where at > now() - make_interval(days => $1)
group by reason, model, version
order by last desc, reason;

-- name: insert_quarantine
insert into quarantine (at, journal, segment, position, seq, records, file, sqlstate, error)
values (clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8);

-- name: insert_labels
-- Of one sample and source only what differs from the label before it, of this call or of an earlier one: who says the
-- same twice has said it once.
insert into labels (sample_id, labelled_at, label, value, source, author, labels)
select given.sample_id, given.labelled_at, given.label, given.value, given.source, given.author, given.labels
from (
    select g.sample_id, g.labelled_at, g.label, g.value, g.source, g.author, several.labels,
        row_number() over w = 1 as leads, lag(g.label) over w as label_before, lag(g.value) over w as value_before,
        lag(several.labels) over w as labels_before
    from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::text[])
        with ordinality as g (sample_id, labelled_at, label, value, source, author, labels, place)
    cross join lateral (select g.labels::text[]) as several (labels)
    window w as (partition by g.sample_id, g.source order by g.labelled_at, g.place)
) as given
left join lateral (
    select l.label, l.value, l.labels
    from labels l
    where given.leads and l.sample_id = given.sample_id and l.source = given.source
    order by l.labelled_at desc
    limit 1
) as stored on true
where row(given.label, given.value, given.labels) is distinct from row(
    case when given.leads then stored.label else given.label_before end,
    case when given.leads then stored.value else given.value_before end,
    case when given.leads then stored.labels else given.labels_before end
);

-- name: supplement_outliers
update outliers o
set detector = $1, scores = given.scores::jsonb
from unnest($2::uuid[], $3::text[]) as given (id, scores)
where o.sample_id = given.id and o.at = sample_at(given.id);

-- name: withdraw_predictions
delete from predictions p
using unnest($2::uuid[]) as given (id)
where p.sample_id = given.id
    and p.at = sample_at(given.id)
    and p.version_id = $1
    and p.at between (select min(sample_at(id)) from unnest($2::uuid[]) as all_of (id))
        and (select max(sample_at(id)) from unnest($2::uuid[]) as all_of (id));

-- name: orphan_labels
select count(*)
from labels l
where l.labelled_at > now() - interval '1 hour'
    and not exists (select from samples s where s.id = l.sample_id and s.at = sample_at(l.sample_id));

-- name: impossible_labels
select count(*) from label_problems where labelled_at > now() - interval '1 hour';

-- name: latest_erasure
select id, at from erasures order by id desc limit 1;

-- name: erasure_time
-- The later of both clocks, so that what was answered before by either is meant; a wild clock here counts for a minute.
select greatest(clock_timestamp(), least($1::timestamptz, clock_timestamp() + interval '1 minute'));

-- name: insert_erasure
insert into erasures (at, kind, sample_id, tag_key, tag_digest, model, before, actor, reason, rows_erased)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)
returning id;

-- name: count_erased
update erasures set rows_erased = rows_erased + $2 where id = $1;

-- name: erasures_since
-- After number $1: those of more than one sample, and those of the samples $2.
select * from erasures where id > $1 and (kind <> 'sample' or sample_id = any ($2::uuid[])) order by id;

-- name: wide_erasures_since
-- Erasures of more than one sample that may mean rows from $1 on.
select * from erasures where kind <> 'sample' and at >= $1 order by id;

-- name: erased_samples
-- Which of these samples were erased; the latest erasure of each.
select distinct on (sample_id) sample_id, id, at from erasures where sample_id = any ($1::uuid[]) order by sample_id, id desc;

-- name: erase_samples
with gone as (
    delete from samples s using unnest($1::uuid[]) as ids (id) where s.id = ids.id returning 1
), predicted as (
    delete from predictions p using unnest($1::uuid[]) as ids (id) where p.sample_id = ids.id returning 1
), flagged as (
    delete from outliers o using unnest($1::uuid[]) as ids (id) where o.sample_id = ids.id returning 1
), labelled as (
    delete from labels l using unnest($1::uuid[]) as ids (id) where l.sample_id = ids.id returning 1
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from labelled) as labels, 0::bigint as rejections;

-- name: erase_tagged
-- Each sample that goes leaves a tombstone of its own: what comes later of it names its id, and no tag.
with gone as (
    delete from samples s
    where s.tags @> jsonb_build_object($2::text, $3::text) and ($4::text is null or s.model = $4)
    returning s.id, s.at
), predicted as (
    delete from predictions p using gone where p.sample_id = gone.id and p.at = gone.at returning 1
), flagged as (
    delete from outliers o using gone where o.sample_id = gone.id and o.at = gone.at returning 1
), labelled as (
    delete from labels l using gone where l.sample_id = gone.id returning 1
), refused as (
    delete from rejections r
    where r.tags @> jsonb_build_object($2::text, $3::text) and ($4::text is null or r.model = $4)
    returning 1
), tombstones as (
    insert into erasures (at, kind, sample_id, actor, reason, rows_erased)
    select $5, 'sample', gone.id, $6, 'part of erasure ' || $1::bigint, 0 from gone
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from labelled) as labels,
    (select count(*) from refused) as rejections;

-- name: erase_tagged_drained
-- The same for what a chunk brought, $5 to $6, of which only a digest of the tag's value is known.
with gone as (
    delete from samples s
    where s.at between $5 and $6
        and encode(sha256(convert_to(s.tags ->> $2::text, 'UTF8')), 'hex') = $3
        and ($4::text is null or s.model = $4)
    returning s.id, s.at
), predicted as (
    delete from predictions p using gone where p.sample_id = gone.id and p.at = gone.at returning 1
), flagged as (
    delete from outliers o using gone where o.sample_id = gone.id and o.at = gone.at returning 1
), labelled as (
    delete from labels l using gone where l.sample_id = gone.id returning 1
), refused as (
    delete from rejections r
    where r.at between $5 and $6
        and encode(sha256(convert_to(r.tags ->> $2::text, 'UTF8')), 'hex') = $3
        and ($4::text is null or r.model = $4)
    returning 1
), tombstones as (
    insert into erasures (at, kind, sample_id, actor, reason, rows_erased)
    select $7, 'sample', gone.id, $8, 'part of erasure ' || $1::bigint, 0 from gone
)
select (select count(*) from gone) as samples, (select count(*) from predicted) as predictions,
    (select count(*) from flagged) as outliers, (select count(*) from labelled) as labels,
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
    (select count(*) from flagged) as outliers, (select count(*) from labelled) as labels,
    (select count(*) from refused) as rejections;
