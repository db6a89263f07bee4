-- Issues: what links two of them, how they go over to a version with other weights, and their changes on the time axis.
--
-- What it costs: a new table, new columns without values, and a view that is replaced.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

create table issue_links (
    one bigint not null references issue_fingerprints (id) on delete cascade,
    other bigint not null references issue_fingerprints (id) on delete cascade,
    rows bigint not null,
    primary key (one, other),
    check (one < other)
);
comment on table issue_links is
    'Fingerprints of different issues that outliers lie between: enough of them, and the recorder merges the two.';
comment on column issue_links.one is 'issue_fingerprints.id, the lower one.';
comment on column issue_links.other is 'issue_fingerprints.id, the higher one.';
comment on column issue_links.rows is
    'Outliers within the radius of both, that came while the smaller of the two had fewer than 50 members.';

alter table issue_fingerprints add column carried_from bigint references issue_fingerprints (id) on delete set null;
comment on column issue_fingerprints.carried_from is
    'issue_fingerprints.id: the one of other weights whose sample this is, as this version sees it; null for what was found here.';
create index issue_fingerprints_carried on issue_fingerprints (carried_from) where carried_from is not null;

alter table issue_scopes add column carried_at timestamptz;
comment on column issue_scopes.carried_at is
    'When the issues of the model''s other weights were last looked for under these; null before.';

comment on column issues.scope_id is
    'issue_scopes.id, of the weights that found it first; its fingerprints may be of others of the same model, too.';
comment on column issue_scopes.id is 'Locked, with all of the model, by whoever changes an issue of the model.';
comment on column issue_events.actor is
    'The user who changed it; where nobody did, `recorder`, or `hoverboard` for what was merged or found again by itself.';

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
create index issue_events_at on issue_events (at);
comment on view events is
    'What happened, on one time axis: deployments, alarms, gaps, issues, and starts and ends of processes. Give `at` a range.';
comment on column events.kind is
    '`deployment`, `alarm`, `alarm_reset`, `gap`, `start`, `stop` or `death`; of an issue `issue_new`, when its first sample came, or '
    '`issue_` and what became of it, as in issue_events.kind.';
comment on column events.subject is
    'What it happened to: the role of a deployment, `outliers` for an alarm, an issue by its number, else the process, such as '
    '`engine-0`.';

grant insert, update, delete on issue_links to recorder;
