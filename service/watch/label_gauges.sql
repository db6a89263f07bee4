-- What labels that came in the last day say of the versions whose answers they are of.

-- name: limit_time
set local statement_timeout = '2s';

-- name: judged_lately
select v.name, v.version, count(*) as rows, sum(w * p.right) / sum(w) filter (where p.right is not null) as accuracy,
    sum(w * abs(p.error)) / sum(w) filter (where p.error is not null) as absolute_error
from (
    select distinct on (sample_id) sample_id, label, labels, value
    from labels
    where labelled_at > now() - interval '1 day' and get_byte(uuid_send(sample_id), 11) < $1
    order by sample_id, labelled_at desc, ctid desc
) t
join lateral (
    -- Bounded, since one sum that overflows would take the figures of all versions away.
    select at, version_id, is_right(label, labels, t.label, t.labels)::int as right,
        case when value is not null and t.value is not null
            then least(greatest(value, -1e70), 1e70) - least(greatest(t.value, -1e70), 1e70) end as error
    from predictions
    where sample_id = t.sample_id and at = sample_at(t.sample_id)
) p on p.right is not null or p.error is not null
join samples s on s.id = t.sample_id and s.at = p.at
join model_versions v on v.id = p.version_id
cross join lateral (select 1 / s.incl_prob::double precision as w) weighed
group by v.name, v.version;
