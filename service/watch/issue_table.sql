-- Issues as the recorder keeps them, in the transaction that moves a journal's cursor. The scopes of a model are locked first, in
-- the order of their ids; everything of its issues is changed under that lock.

-- name: begin_scope
insert into issue_scopes (model, backbone_sha256) values ($1, $2) on conflict (model, backbone_sha256) do nothing;

-- name: count_rows
with given as materialized (
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::date[]) as g (model, backbone_sha256, rows, day)
), locked as materialized (
    select s.id, s.model, s.backbone_sha256, s.rows
    from issue_scopes s
    where s.model in (select model from given)
    order by s.id
    for update of s
), counted as (
    insert into issue_scope_days as d (scope_id, day, rows)
    select l.id, g.day, g.rows from locked l join given g using (model, backbone_sha256) where g.rows > 0
    on conflict (scope_id, day) do update set rows = d.rows + excluded.rows
)
update issue_scopes s
set rows = l.rows + g.rows
from locked l join given g using (model, backbone_sha256)
where s.id = l.id
returning s.*, (
    -- An issue may be of several weights of its model: its rate is one among all that ran.
    (select sum(o.rows) from locked o where o.model = s.model) + (select sum(o.rows) from given o where o.model = s.model)
)::bigint as rows_of_model;

-- name: find_version
select id from model_versions where name = $1 and version = $2 and weights_sha256 = $3;

-- name: plan_each
-- A plan for any array looks at each of its ids for each row of the day; one for this array asks the index, or hashes them. This
-- holds for the rest of the transaction.
select set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: flagged
-- Which of these samples, ascending, the version found strange, and are in no issue yet: their places.
select coalesce(array_agg(width_bucket(o.sample_id, $1::uuid[]) - 1), '{}')
from outliers o
where o.sample_id = any ($1::uuid[]) and o.at between $3 and $4 and o.version_id = $2 and o.issue_id is null;

-- name: first_flagged
-- The first outliers of a version that are in no issue, with their features.
select o.sample_id, x.z
from outliers o
join features x on x.sample_id = o.sample_id and x.at = o.at and x.version_id = o.version_id
where o.version_id = $1 and o.issue_id is null
order by o.sample_id
limit $2;

-- name: set_radius
update issue_scopes set radius = $2, radius_from = $3, whitened = $4 where id = $1;

-- name: leaders
select id, z from issue_fingerprints where scope_id = $1 and z is not null order by id;

-- name: begin_issues
with numbered as materialized (
    select nextval('issue_numbers') as id, g.sample_id, g.z, g.place
    from unnest($3::uuid[], $4::bytea[]) with ordinality as g (sample_id, z, place)
), begun as (
    insert into issues
        (id, scope_id, state, substate, state_at, why, members, first_seen, last_seen, first_version, last_version, rows_seen)
    select id, $1, 'unresolved', 'new', now(), 'the first of its kind', 0, sample_at(sample_id), sample_at(sample_id), $5, $5, $6
    from numbered
)
insert into issue_fingerprints (id, scope_id, issue_id, sample_id, version_id, z, members, distances, last_seen)
select id, $1, id, sample_id, $2, z, 0, 0, sample_at(sample_id) from numbered order by place
returning id, sample_id;

-- name: change_leaders
update issue_scopes set revision = $2 where id = $1;

-- name: count_ungrouped
update issue_scopes set ungrouped = ungrouped + $2 where id = $1;

-- name: join_fingerprints
update issue_fingerprints f
set members = f.members + g.members, distances = f.distances + g.distances, last_seen = greatest(f.last_seen, g.last_seen)
from unnest($1::bigint[], $2::bigint[], $3::float8[], $4::timestamptz[]) as g (id, members, distances, last_seen)
where f.id = g.id
returning f.id, f.issue_id;

-- name: join_issues
update issues i
set members = i.members + g.members, first_seen = least(i.first_seen, g.first_seen),
    last_seen = greatest(i.last_seen, g.last_seen), first_version = least(i.first_version, $5),
    last_version = greatest(i.last_version, $5)
from (
    select f.issue_id, sum(n.members)::bigint as members, min(n.first_seen) as first_seen, max(n.last_seen) as last_seen
    from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[]) as n (id, members, first_seen, last_seen)
    join issue_fingerprints f on f.id = n.id
    group by f.issue_id
) g
where i.id = g.issue_id
returning i.id, g.members as joined, g.last_seen as joined_at, i.members, i.state, i.substate, i.first_seen, i.rows_seen,
    i.rate_day, i.rate_bound, i.rate_rows, i.rate_members, i.log_sums, i.evidence_rows, i.evidence_members, i.resolved_at;

-- name: join_days
insert into issue_days as d (fingerprint, day, members)
select * from unnest($1::bigint[], $2::date[], $3::bigint[])
on conflict (fingerprint, day) do update set members = d.members + excluded.members;

-- name: mark_outliers
-- The ids ascend: each row's place among them is found by halving, and not by a join whose plan would be a guess.
update outliers o
set fingerprint = ($2::bigint[])[width_bucket(o.sample_id, $1::uuid[])],
    issue_id = ($3::bigint[])[width_bucket(o.sample_id, $1::uuid[])]
where o.sample_id = any ($1::uuid[]) and o.at between $5 and $6 and o.version_id = $4;

-- name: regress
-- One conditional update decides: a version that the resolution does not cover, and a sample from after it.
update issues i
set state = 'unresolved', substate = 'regressed', state_at = now(),
    why = format('version %s found it again at %s, after it was resolved in version %s',
        $3::bigint, to_char(g.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), i.resolved_in)
from unnest($1::bigint[], $2::timestamptz[]) as g (id, at)
where i.id = g.id and i.state = 'resolved' and $3::bigint >= i.resolved_in and g.at > i.resolved_at
returning i.id, i.why;

-- name: rates
-- Rows and members of each issue on the 7 days before a day, or on those since the day that it was first seen.
select i.id,
    (
        select sum(s.rows)::bigint
        from issue_scopes own
        join issue_scopes alike on alike.model = own.model
        join issue_scope_days s on s.scope_id = alike.id
        where own.id = i.scope_id and s.day < g.day
            and s.day >= greatest(g.day - 7, (i.first_seen at time zone 'UTC')::date)
    ) as rows,
    (
        select sum(d.members)::bigint from issue_fingerprints f join issue_days d on d.fingerprint = f.id
        where f.issue_id = i.id and d.day < g.day and d.day >= g.day - 7
    ) as members
from unnest($1::bigint[], $2::date[]) as g (id, day)
join issues i on i.id = g.id;

-- name: write_pace
update issues
set rows_seen = $2, rate_day = $3, rate_bound = $4, rate_rows = $5, rate_members = $6, log_sums = $7, evidence_rows = $8,
    evidence_members = $9
where id = $1;

-- name: escalate
update issues
set state = 'unresolved', substate = 'escalating', state_at = now(), why = $2
where id = $1 and ((state = 'unresolved' and substate = 'ongoing') or (state = 'archived' and substate = 'until_escalating'))
returning id;

-- name: insert_events
insert into issue_events (at, issue_id, kind, actor, reason)
select now(), id, $2, 'recorder', reason from unnest($1::bigint[], $3::text[]) as g (id, reason);

-- name: counts
select s.model, count(i.id) as open,
    count(i.id) filter (where i.substate = 'new') as new,
    count(i.id) filter (where i.substate = 'escalating') as escalating,
    count(i.id) filter (where i.substate = 'regressed') as regressed
from issue_scopes s
left join issues i on i.scope_id = s.id and i.state = 'unresolved' and i.members >= $1
group by s.model;

-- name: lock_scopes
select id from issue_scopes order by id for update;

-- name: age
with aged as (
    update issues
    set substate = 'ongoing', state_at = now(), why = format('%s for 7 days', substate)
    where state = 'unresolved' and substate <> 'ongoing' and state_at < $1::timestamptz - interval '7 days'
    returning id, why, members
)
insert into issue_events (at, issue_id, kind, actor, reason)
select now(), id, 'ongoing', 'recorder', why from aged where members >= $2;

-- name: replace_leaders
-- Leaders whose sample is gone: the oldest member on record takes the place, with its own features; without one nothing is kept.
with gone as materialized (
    select f.id
    from issue_fingerprints f
    where f.sample_id is not null and not exists (
        select from features x
        where x.sample_id = f.sample_id and x.at = sample_at(f.sample_id)
            -- What was carried over has the sample of another version, whose features are on record.
            and (x.version_id = f.version_id or f.carried_from is not null)
    )
), changed as (
    update issue_fingerprints f
    set (sample_id, version_id, z, carried_from) = (
        select o.sample_id, o.version_id, x.z, null::bigint
        from outliers o
        join features x on x.sample_id = o.sample_id and x.at = o.at and x.version_id = o.version_id
        where o.issue_id = f.issue_id and o.fingerprint = f.id
        order by o.sample_id
        limit 1
    )
    from gone where gone.id = f.id
    returning f.scope_id
)
update issue_scopes set revision = revision + 1 where id in (select scope_id from changed);

-- name: forget_few
-- What stayed below the number that makes an issue visible, and was not seen for a month, makes room.
with few as materialized (
    select id from issues i
    where members < $1 and last_seen < $2::timestamptz - interval '30 days' and state = 'unresolved'
        and not exists (select from issues m where m.merged_into = i.id)
        and (select count(*) from issue_fingerprints f where f.issue_id = i.id) = 1
), unmarked as (
    update outliers o set issue_id = null, fingerprint = null from few where o.issue_id = few.id
), leaders as (
    delete from issue_fingerprints f using few where f.issue_id = few.id returning f.scope_id
)
update issue_scopes set revision = revision + 1 where id in (select scope_id from leaders);

-- name: delete_forgotten
delete from issues i where not exists (select from issue_fingerprints f where f.issue_id = i.id) and i.state <> 'merged';

-- name: expire_days
with days as (delete from issue_days where day < $1::date)
delete from issue_scope_days where day < $1::date;
