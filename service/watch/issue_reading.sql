-- Issues as people look at them.

-- name: issues
select i.id, s.model, i.state, i.substate, i.state_at, i.why, i.members, i.first_seen, i.last_seen, i.first_version,
    i.last_version, i.resolved_in, i.merged_into,
    (
        select coalesce(sum(d.members), 0)::bigint
        from issue_fingerprints f join issue_days d on d.fingerprint = f.id
        where f.issue_id = i.id and d.day > (now() at time zone 'UTC')::date - 7
    ) as members_7_days,
    (select count(*) from outliers o where o.issue_id = i.id and o.at > now() - interval '1 day') as members_1_day,
    array(
        select coalesce(sum(d.members), 0)::bigint
        from generate_series(13, 0, -1) as ago (days)
        left join (issue_fingerprints f join issue_days d on d.fingerprint = f.id)
            on f.issue_id = i.id and d.day = (now() at time zone 'UTC')::date - ago.days
        group by ago.days
        order by ago.days desc
    ) as last_14_days
from issues i
join issue_scopes s on s.id = i.scope_id
where ($1::text is null or s.model = $1) and ($2::bigint is null or i.id = $2)
    and ($2 is not null or i.members >= $3) and ($2 is not null or $4 or i.state = 'unresolved')
order by i.state = 'unresolved' desc, array_position(array['escalating', 'regressed', 'new'], i.substate) nulls last,
    members_1_day desc, i.last_seen desc, i.id;

-- name: models
select count(*) from model_versions where name = $1;

-- name: scopes
select sum(ungrouped)::bigint as ungrouped from issue_scopes where ($1::text is null or model = $1);

-- name: unknown
-- Of each model the latest version that finds outliers, where its weights are others than those that visible issues were found under:
-- how many of these it does not know. Once they were carried over to it only those count that were not visible then: some samples
-- cannot be carried, and would be asked for again and again.
select s.model, s.version, count(distinct f.issue_id) as issues
from (
    select distinct on (s.model) s.id, s.model, s.backbone_sha256, s.carried_at, v.version
    from issue_scopes s
    join model_versions v on v.name = s.model and v.weights_sha256 = s.backbone_sha256
    where ($1::text is null or s.model = $1)
    order by s.model, v.version desc
) s
join issue_scopes c on c.model = s.model and c.id <> s.id
join issue_fingerprints f on f.scope_id = c.id and f.carried_from is null and f.sample_id is not null
join issues i on i.id = f.issue_id and i.members >= $2
where (
        s.carried_at is null
        or $2 > (select count(*) from (select from outliers o where o.issue_id = i.id and o.at <= s.carried_at limit $2) o)
    )
    and not exists (select from issue_fingerprints g where g.scope_id = s.id and g.issue_id = f.issue_id)
group by s.model, s.version
order by s.model;

-- name: events
select at, kind, actor, reason from issue_events where issue_id = $1 order by id;

-- name: fingerprints
select f.id, f.sample_id, f.members, f.last_seen, f.distances / nullif(f.members, 0) as mean_distance, s.radius, s.radius_from,
    array(
        select case when n.one = f.id then n.other else n.one end from issue_never n where f.id in (n.one, n.other) order by 1
    ) as never
from issue_fingerprints f
join issue_scopes s on s.id = f.scope_id
where f.issue_id = $1
order by f.id;

-- name: days
select d.day, sum(d.members)::bigint as members
from issue_fingerprints f join issue_days d on d.fingerprint = f.id
where f.issue_id = $1 and d.day > (now() at time zone 'UTC')::date - 30
group by d.day
order by d.day;

-- name: latest
select o.at, o.sample_id, v.version, o.p_value, o.fingerprint, p.label, p.confidence, p.value
from outliers o
join model_versions v on v.id = o.version_id
left join predictions p on p.sample_id = o.sample_id and p.at = o.at and p.version_id = o.version_id
where o.issue_id = $1
order by o.at desc, o.sample_id desc
limit $2;

-- name: examples
-- The samples that lead it, as they were recorded: what is hidden was hidden before.
select f.sample_id, s.at, left(s.inputs::text, 400) as inputs, s.vector[1:8] as vector, cardinality(s.vector) as elements,
    s.tensors is not null as tensors, s.caller, s.tags::text as tags, v.version, p.label, p.confidence, p.value, f.members
from issue_fingerprints f
join samples s on s.id = f.sample_id and s.at = sample_at(f.sample_id)
left join lateral (
    select p.version_id, p.label, p.confidence, p.value
    from predictions p
    where p.sample_id = s.id and p.at = s.at
    order by p.role is not distinct from 'shadow', p.version_id
    limit 1
) p on true
left join model_versions v on v.id = p.version_id
where f.issue_id = $1 and f.carried_from is null
order by f.members desc, f.id
limit $2;

-- name: shares
-- Whose they are, of the latest.
with latest as materialized (
    select o.sample_id, o.at, o.version_id from outliers o where o.issue_id = $1 order by o.at desc limit $2
), span as materialized (
    select min(at) as first, max(at) as last from latest
), asked as materialized (
    select s.caller, s.tags
    from latest l
    join samples s on s.id = l.sample_id and s.at = l.at
    where s.at >= (select first from span) and s.at <= (select last from span)
), counted as (
    select 'version' as kind, v.version::text as value, count(*) as rows
    from latest l join model_versions v on v.id = l.version_id group by 2
    union all
    select 'answer', p.label, count(*)
    from latest l
    join predictions p on p.sample_id = l.sample_id and p.at = l.at and p.version_id = l.version_id
    where p.label is not null and p.at >= (select first from span) and p.at <= (select last from span)
    group by 2
    union all
    select 'caller', caller, count(*) from asked where caller is not null group by 2
    union all
    select 'tag ' || t.key, t.value, count(*)
    from asked, jsonb_each_text(case when jsonb_typeof(asked.tags) = 'object' then asked.tags end) t
    group by 1, 2
), ranked as (
    select *, row_number() over (partition by kind order by rows desc, value) as place from counted
)
select kind, value, rows, rows::float8 / (select count(*) from latest) as share from ranked where place <= 3
order by kind not in ('version', 'answer', 'caller'), kind, place;

-- name: beside
-- Issues that outliers lie between: perhaps the same thing.
select i.id, i.state, i.substate, sum(l.rows)::bigint as rows
from issue_fingerprints f
join issue_links l on f.id in (l.one, l.other)
join issue_fingerprints g on g.id = case when l.one = f.id then l.other else l.one end and g.issue_id <> f.issue_id
join issues i on i.id = g.issue_id
where f.issue_id = $1
group by i.id
order by rows desc, i.id
limit 5;
