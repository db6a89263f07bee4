-- What people change about issues. The scopes of the model are locked first, as the recorder does.

-- name: lock_model
select id from issue_scopes
where model = (select s.model from issues i join issue_scopes s on s.id = i.scope_id where i.id = $1)
order by id
for update;

-- name: find_issue
select i.state, i.merged_into, s.model from issues i join issue_scopes s on s.id = i.scope_id where i.id = $1;

-- name: last_version
-- The caller adds one: what follows the largest number that there can be is too large for the column.
select max(v.version) from model_versions v where v.name = $1;

-- name: set_state
update issues
set state = $2, substate = $3, why = $4, state_at = now(), resolved_in = $5, rate_day = null, log_sums = null,
    resolved_at = case when $2 = 'resolved' then clock_timestamp() end
where id = $1;

-- name: insert_event
insert into issue_events (at, issue_id, kind, actor, reason) values (now(), $1, $2, $3, $4);

-- name: apart
-- Who took a fingerprint of the one issue from one of the other.
select n.actor, n.at, n.one, n.other
from issue_never n
join issue_fingerprints f on f.id = n.one
join issue_fingerprints g on g.id = n.other
where (f.issue_id = $1 and g.issue_id = $2) or (f.issue_id = $2 and g.issue_id = $1)
limit 1;

-- name: forget_apart
delete from issue_never n
using issue_fingerprints f, issue_fingerprints g
where f.id = n.one and g.id = n.other
    and ((f.issue_id = $1 and g.issue_id = $2) or (f.issue_id = $2 and g.issue_id = $1));

-- name: point_fingerprints
-- Those of an issue, or of them only the one that it began with.
update issue_fingerprints set issue_id = $2 where issue_id = $1 and ($3::bigint is null or id = $3) returning id;

-- name: point_outliers
update outliers set issue_id = $2 where issue_id = $1 and ($3::bigint is null or fingerprint = $3);

-- name: point_merged
update issues set merged_into = $2 where merged_into = $1 or id = $1;

-- name: widen
update issues a
set first_seen = least(a.first_seen, b.first_seen), first_version = least(a.first_version, b.first_version),
    last_version = greatest(a.last_version, b.last_version), rate_day = null, log_sums = null
from issues b
where a.id = $1 and b.id = $2;

-- name: recount
update issues i
set members = f.members, last_seen = f.last_seen
from (
    select issue_id, sum(members)::bigint as members, max(last_seen) as last_seen from issue_fingerprints group by issue_id
) f
where f.issue_id = i.id and i.id = any ($1::bigint[]);

-- name: become_merged
update issues set state = 'merged', substate = '', state_at = now(), why = $3, merged_into = $2 where id = $1;

-- name: become_itself
update issues
set state = 'unresolved', substate = 'ongoing', state_at = now(), why = $2, merged_into = null, resolved_in = null,
    resolved_at = null, rate_day = null, log_sums = null
where id = $1;

-- name: keep_apart
insert into issue_never (one, other, at, actor)
select least(f.id, $1), greatest(f.id, $1), now(), $3 from issue_fingerprints f where f.issue_id = $2
on conflict (one, other) do nothing;
