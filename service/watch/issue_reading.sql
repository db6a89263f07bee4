-- Issues as people look at them.

-- name: issues
select i.id, s.model, i.state, i.substate, i.state_at, i.why, i.members, i.first_seen, i.last_seen, i.first_version,
    i.last_version, i.resolved_in, i.merged_into,
    (
        select coalesce(sum(d.members), 0)::bigint
        from issue_fingerprints f join issue_days d on d.fingerprint = f.id
        where f.issue_id = i.id and d.day > (now() at time zone 'UTC')::date - 7
    ) as members_7_days
from issues i
join issue_scopes s on s.id = i.scope_id
where ($1::text is null or s.model = $1) and ($2::bigint is null or i.id = $2)
    and ($2 is not null or i.members >= $3) and ($2 is not null or $4 or i.state = 'unresolved')
order by i.state = 'unresolved' desc, i.substate in ('regressed', 'escalating') desc, i.last_seen desc, i.id;

-- name: models
select count(*) from model_versions where name = $1;

-- name: scopes
select sum(ungrouped)::bigint as ungrouped from issue_scopes where ($1::text is null or model = $1);

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

-- name: latest_members
select o.at, o.sample_id, v.version, o.p_value, o.fingerprint, p.label, p.confidence, p.value
from outliers o
join model_versions v on v.id = o.version_id
left join predictions p on p.sample_id = o.sample_id and p.at = o.at and p.version_id = o.version_id
where o.issue_id = $1
order by o.at desc, o.sample_id desc
limit $2;
