-- Rows that come after their erasure.

-- name: wide_erasures_since
-- Erasures of more than one sample that may mean rows from $1 on.
select * from erasures where kind <> 'sample' and at >= $1 order by id;

-- name: erased_samples
-- Which of these samples were erased; the latest erasure of each.
select distinct on (sample_id) sample_id, id, at from erasures where sample_id = any ($1::uuid[]) order by sample_id, id desc;

-- name: drained_values
-- What stands in the tag $1 of rows from $3 to $4 and has the digest $2: a tombstone names no value, `erase_tagged` needs it.
select tags ->> $1::text as value
from (
    select tags from samples where at between $3 and $4
    union all
    select tags from rejections where at between $3 and $4
) as drained
where encode(sha256(convert_to(tags ->> $1::text, 'UTF8')), 'hex') = $2
group by value;
