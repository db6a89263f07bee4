-- A day of calls whose rows are wide.

-- name: pool
-- What is sent: some usual inputs, and as many that come of one customer from 14:00 on.
create temp table pool (n int, strange boolean, inputs jsonb, tensors bytea);

-- name: unpacked
-- Numbers of pictures do not compress, and to try takes minutes.
alter table samples alter column tensors set storage external;

-- name: fill
-- Rows $2 to $3 - 1 of $4 of the model $5, spread over the day that begins at $6.
with drawn as materialized (
    select i, customer, u, at, strange, i % (select count(*) / 2 from pool) as n,
        (
            lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || 'a'
            || substr(md5(i::text), 4, 15)
        )::uuid as id
    from generate_series($2::bigint, $3::bigint - 1) i
    cross join lateral (
        select 15 + (hashint8(i) & 1023) % 5 as customer, (hashint8(i * 7 + 1) & 65535) / 65536.0::float8 as u,
            $6::timestamptz + floor(i::float8 / $4::bigint * 86400000) * interval '1 millisecond' as at
    ) r
    cross join lateral (
        select customer = 17 and at >= $6::timestamptz + interval '14 hours' and u > 0.5 or u < 0.005 as strange
    ) s
), asked as (
    insert into samples (at, id, model, inputs, tensors, tags, request_id, incl_prob, why)
    select at, id, $5, p.inputs, p.tensors, jsonb_build_object('customer', customer::text), 'r-' || i, 1, 'all'
    from drawn
    join pool p using (n, strange)
), answered as (
    insert into predictions (
        at, sample_id, version_id, role, predicted_at, label, confidence, p_value, batch_id, batch_size, bucket, queue_us,
        infer_us, process
    )
    select at, id, $1::int, 'stable', at, case when strange then 'large' else 'small' end, 0.5 + u / 2,
        case when strange then 0.005 else u end, id, 32, 32, (300 + 1000 * u)::int, 700, 'engine-' || i % 2
    from drawn
)
insert into outliers (at, sample_id, version_id, detector, p_value)
select at, id, $1::int, 'mahalanobis', 0.005 from drawn where strange;
