-- Rows that come after their erasure.

-- name: wide_erasures_since
-- Erasures of more than one sample that may mean rows from $1 on.
select * from erasures where kind <> 'sample' and at >= $1 order by id;

-- name: erased_samples
-- Which of these samples were erased; the latest erasure of each.
select distinct on (sample_id) sample_id, id, at from erasures where sample_id = any ($1::uuid[]) order by sample_id, id desc;

-- name: erase_tagged_drained
-- As `erase_tagged`, for what a chunk brought, $5 to $6, of which only a digest of the tag's value is known.
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
