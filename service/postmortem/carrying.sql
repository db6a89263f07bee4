-- Issues carried over to a version with other weights.

-- name: version_id
select id from model_versions where name = $1 and version = $2 and weights_sha256 = $3;

-- name: leaders
-- Those that were found under other weights and are unknown under these: the ones with the most members.
select f.id, f.sample_id, s.inputs::text as inputs, array_send(s.vector) as vector, s.tensors
from issue_scopes c
join issue_fingerprints f on f.scope_id = c.id and f.carried_from is null
join issues i on i.id = f.issue_id and i.members >= $3
join samples s on s.id = f.sample_id and s.at = sample_at(f.sample_id)
where c.model = $1 and c.backbone_sha256 <> $2
    and not exists (
        select from issue_scopes d
        join issue_fingerprints g on g.scope_id = d.id
        where d.model = $1 and d.backbone_sha256 = $2 and g.sample_id = f.sample_id
    )
order by f.members desc, f.id
limit $4;

-- name: begin_scope
insert into issue_scopes (model, backbone_sha256) values ($1, $2) on conflict (model, backbone_sha256) do nothing;

-- name: lock_model
select id, backbone_sha256, radius, whitened from issue_scopes where model = $1 order by id for update;

-- name: carry
-- Which issue a leader is of is asked now: somebody may have merged it since it was read.
insert into issue_fingerprints
    (id, scope_id, issue_id, sample_id, version_id, z, members, distances, last_seen, carried_from)
select nextval('issue_numbers'), $1, f.issue_id, f.sample_id, $2, g.z, 0, 0, f.last_seen, f.id
from unnest($3::bigint[], $4::bytea[]) with ordinality as g (id, z, place)
join issue_fingerprints f on f.id = g.id
where not exists (select from issue_fingerprints h where h.scope_id = $1 and h.sample_id = f.sample_id)
order by g.place
returning id, carried_from, z, issue_id;

-- name: found_here
-- What began under these weights, and may be known from others.
select f.id, f.z, f.last_seen
from issue_fingerprints f
where f.scope_id = $1 and f.carried_from is null and f.z is not null and length(f.z) = $2
order by f.id;

-- name: carried
update issue_scopes set carried_at = now(), revision = $2 where id = $1;

-- name: note
insert into issue_events (at, issue_id, kind, actor, reason) select now(), id, 'note', 'hoverboard', $2 from unnest($1::bigint[]) as g (id);
