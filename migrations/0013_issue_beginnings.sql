-- The beginning of an issue on the time axis says what happened then, and not what became of it since.
--
-- What it costs: a view that is replaced.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

create or replace view events as
select d.at, d.model, v.version, 'deployment' as kind, d.role as subject,
    case when d.version_id is null then 'nothing answers' else 'version ' || v.version || ' answers' end
        || ' on ' || d.process || ': ' || d.reason || ' (' || d.actor || ')' as detail
from deployments d
left join model_versions v on v.id = d.version_id
union all
select a.at, v.name, v.version, case a.kind when 'raised' then 'alarm' else 'alarm_reset' end, 'outliers',
    case a.kind
        when 'raised' then case
            when a.onset_rows is null then a.flagged || ' outliers among ' || a.rows || ' samples'
            else a.onset_flagged || ' outliers among ' || a.onset_rows || ' samples since ' || a.onset_at
        end
        else 'reset by ' || coalesce(a.actor, 'somebody') || coalesce(': ' || a.reason, '')
    end
from alarm_events a
join model_versions v on v.id = a.version_id
union all
select coalesce(g.first_at, g.at), g.model, g.version, 'gap', g.process,
    g.reason || ': ' || coalesce(g.records::text, 'an unknown number of') || ' records' || coalesce(' until ' || g.last_at, '')
from gaps g
where g.reason <> 'duplicate'
union all
select e.at, null, null, e.kind, e.process, e.detail
from process_events e
union all
select i.first_seen, s.model, i.first_version, 'issue_new', 'issue ' || i.id,
    'version ' || i.first_version || ' found the first of its kind'
from issues i
join issue_scopes s on s.id = i.scope_id
where i.members >= 5 and i.state <> 'merged'
union all
select e.at, s.model, null, 'issue_' || e.kind, 'issue ' || e.issue_id, e.reason || ' (' || e.actor || ')'
from issue_events e
join issues i on i.id = e.issue_id
join issue_scopes s on s.id = i.scope_id
where e.kind <> 'note';
