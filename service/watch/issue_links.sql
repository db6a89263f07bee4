-- Which issues are linked by outliers that lie between two of their leaders.

-- name: members
select id, members from issue_fingerprints where id = any ($1::bigint[]);

-- name: count_links
insert into issue_links as l (one, other, rows)
select g.one, g.other, g.rows
from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as g (one, other, rows)
join issue_fingerprints f on f.id = g.one
join issue_fingerprints h on h.id = g.other and h.issue_id <> f.issue_id
on conflict (one, other) do update set rows = l.rows + excluded.rows
returning one, other, rows;

-- name: linked
-- The issues of two fingerprints, the one that began first before the other.
select a.id as one, a.state as one_state, a.resolved_in, a.resolved_at, b.id as other, b.state as other_state
from issue_fingerprints f
join issue_fingerprints h on h.id = $2
join issues a on a.id = least(f.issue_id, h.issue_id)
join issues b on b.id = greatest(f.issue_id, h.issue_id)
where f.id = $1 and f.issue_id <> h.issue_id;
