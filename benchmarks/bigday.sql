-- A long day of calls: five customers, one of whom sends heights in millimetres from 14:00 on.

-- name: fill
-- Rows $2 to $3 - 1 of $4, spread over the day that begins at $5. The same rows come out each time.
with drawn as materialized (
    select i, customer, u, h, w, at, case when sick then h * 10 else h end as height, sick, sick or u < 0.005 as strange,
        u >= 0.005 and u < 0.006 and not sick as failed, case when h > 10 or sick then 'large' else 'small' end as answer,
        (
            lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || 'a'
            || substr(md5(i::text), 4, 15)
        )::uuid as id
    from generate_series($2::bigint, $3::bigint - 1) i
    cross join lateral (
        select 15 + (hashint8(i) & 1023) % 5 as customer, (hashint8(i * 7 + 1) & 65535) / 65536.0::float8 as u,
            8 + 4 * ((hashint8(i * 3 + 5) & 65535) / 65536.0::float8) as h,
            8 + 4 * ((hashint8(i * 5 + 9) & 65535) / 65536.0::float8) as w,
            $5::timestamptz + floor(i::float8 / $4::bigint * 86400000) * interval '1 millisecond' as at
    ) r
    cross join lateral (select customer = 17 and at >= $5::timestamptz + interval '14 hours' and u > 0.5 as sick) s
), asked as (
    insert into samples (at, id, model, inputs, tags, request_id, incl_prob, why)
    select at, id, 'cups',
        jsonb_build_object('height', height::float4, 'width', w::float4, 'note', case when sick then 'two free refills' else 'plain cup' end),
        jsonb_build_object('customer', customer::text, 'shop', (i % 400)::text), 'r-' || i, 1, 'all'
    from drawn
), answered as (
    insert into predictions (
        at, sample_id, version_id, role, predicted_at, label, confidence, p_value, batch_id, batch_size, bucket, queue_us,
        infer_us, process
    )
    select at, id, $1::int, 'stable', at, answer, 0.5 + u / 2,
        case when strange then 0.005 else u end, id, 32, 32, (300 + 1000 * u)::int, 700, 'engine-' || i % 2
    from drawn where not failed
), seen as (
    insert into outliers (at, sample_id, version_id, detector, p_value)
    select at, id, $1::int, 'mahalanobis', 0.005 from drawn where strange
), inner_layer as (
    insert into features (at, sample_id, version_id, z)
    select at, id, $1::int, decode(md5(i::text) || md5(i::text), 'hex') from drawn where strange or i % 20 = 0
)
insert into labels (sample_id, labelled_at, label, source)
select id, at + interval '2 hours', case when u < 0.98 then answer when answer = 'large' then 'small' else 'large' end, 'review'
from drawn
where i % 50 = 0 and not failed;

-- name: sizes
select sum(pg_total_relation_size(c.oid)) / 1e9 as gigabytes
from pg_class c
where c.relnamespace = 'hoverboard'::regnamespace and c.relkind = 'r';
