-- Issues: outliers that are alike, under one number, with a state that people set.
--
-- What it costs: new tables, a new column without values, and an index on outliers, which are few. outliers is locked while
-- its index is made.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

alter table outliers add column fingerprint bigint;
comment on column outliers.fingerprint is 'issue_fingerprints.id: the leader that it joined; null before grouping.';
comment on column outliers.issue_id is
    'issues.id: the issue that its leader belongs to now; null before grouping, and for what was not grouped.';
create index outliers_issue_id on outliers (issue_id, at) where issue_id is not null;

create sequence issue_numbers;

create table issue_scopes (
    id int generated always as identity primary key,
    model text not null,
    backbone_sha256 text not null,
    whitened boolean,
    radius double precision,
    radius_from text,
    rows bigint not null default 0,
    ungrouped bigint not null default 0,
    revision bigint not null default 0,
    unique (model, backbone_sha256)
);
comment on table issue_scopes is
    'Where outliers can be compared: one row for each model and the weights that its features come from.';
comment on column issue_scopes.id is 'Locked by whoever changes an issue of the scope.';
comment on column issue_scopes.model is 'Name of the model.';
comment on column issue_scopes.backbone_sha256 is
    'Of the weights that the features come from: of the whole version, where nothing is said of its parts.';
comment on column issue_scopes.whitened is
    'Whether distances are taken under the covariance of the version''s detector; null before the radius is known.';
comment on column issue_scopes.radius is 'An outlier joins its nearest leader up to this distance; null before it is known.';
comment on column issue_scopes.radius_from is 'What the radius was taken from, in words; null before.';
comment on column issue_scopes.rows is 'Samples that ran since the first outlier came; those that repeat a recent one are left out.';
comment on column issue_scopes.ungrouped is 'Outliers with features that joined no issue: the log and the metrics say why.';
comment on column issue_scopes.revision is 'Changes whenever a leader comes or goes.';

create table issues (
    id bigint primary key,
    scope_id int not null references issue_scopes (id),
    state text not null check (state in ('unresolved', 'archived', 'resolved', 'ignored', 'merged')),
    substate text not null,
    state_at timestamptz not null,
    why text not null,
    members bigint not null,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    first_version bigint not null,
    last_version bigint not null,
    resolved_in bigint,
    resolved_at timestamptz,
    merged_into bigint references issues (id),
    rate_day date,
    rate_bound double precision,
    rate_rows bigint not null default 0,
    rate_members bigint not null default 0,
    rows_seen bigint not null default 0,
    log_sums double precision[],
    evidence_rows bigint not null default 0,
    evidence_members bigint not null default 0,
    check (case state
        when 'unresolved' then substate in ('new', 'ongoing', 'escalating', 'regressed')
        when 'archived' then substate in ('until_escalating', 'forever')
        else substate = ''
    end),
    check ((state = 'resolved') <= (resolved_in is not null and resolved_at is not null)),
    check ((state = 'merged') = (merged_into is not null))
);
create index issues_scope on issues (scope_id, state, substate);
comment on table issues is 'Outliers that are alike. `hoverboard issues` lists those with at least 5 members.';
comment on column issues.id is 'Number; that of the fingerprint that it began with.';
comment on column issues.scope_id is 'issue_scopes.id';
comment on column issues.state is '`unresolved`, `archived`, `resolved`, `ignored`, or `merged` into another one.';
comment on column issues.substate is
    'Of an unresolved one `new`, `ongoing`, `escalating` or `regressed`; of an archived one `until_escalating` or `forever`; else empty.';
comment on column issues.state_at is 'Since when, by the clock of the database.';
comment on column issues.why is 'Why it is so, in words.';
comment on column issues.members is 'Outliers that joined it, also those that were erased or have expired since.';
comment on column issues.first_seen is 'Time of its earliest sample.';
comment on column issues.last_seen is 'Time of its latest sample.';
comment on column issues.first_version is 'The lowest version that found one of them.';
comment on column issues.last_version is 'The highest version that found one of them.';
comment on column issues.resolved_in is 'The version that is right again: lower ones may still find it. Null where it was never resolved.';
comment on column issues.resolved_at is 'When that was said: earlier samples may still come. Null where it was never resolved.';
comment on column issues.merged_into is 'issues.id, of a merged one; else null.';
comment on column issues.rate_day is 'The day (UTC) for which its own rate was taken; null before.';
comment on column issues.rate_bound is '95% upper bound of its own rate on up to 7 days before that day; null without such days.';
comment on column issues.rate_rows is 'Samples that ran on those days.';
comment on column issues.rate_members is 'Members on those days.';
comment on column issues.rows_seen is 'issue_scopes.rows up to which its evidence counts.';
comment on column issues.log_sums is 'Evidence of a higher rate on rate_day, as in alarms.';
comment on column issues.evidence_rows is 'Samples that the evidence counts.';
comment on column issues.evidence_members is 'Members among them.';

create table issue_fingerprints (
    id bigint primary key,
    scope_id int not null references issue_scopes (id),
    issue_id bigint not null references issues (id),
    sample_id uuid,
    version_id int,
    z bytea,
    members bigint not null,
    distances double precision not null,
    last_seen timestamptz not null
);
create index issue_fingerprints_issue on issue_fingerprints (issue_id);
create index issue_fingerprints_scope on issue_fingerprints (scope_id);
comment on table issue_fingerprints is
    'Leaders, and the issue that each belongs to: what joins a leader is of that issue, also after a merge.';
comment on column issue_fingerprints.id is 'The issue of this number began with it.';
comment on column issue_fingerprints.scope_id is 'issue_scopes.id';
comment on column issue_fingerprints.issue_id is 'issues.id: its own, or the one that this was merged into.';
comment on column issue_fingerprints.sample_id is
    'The leader''s sample. Once that is erased or has expired, the oldest member on record; null without any: then nothing joins.';
comment on column issue_fingerprints.version_id is 'model_versions.id: whose features; null without a leader.';
comment on column issue_fingerprints.z is 'features.z of that sample; null without a leader.';
comment on column issue_fingerprints.members is 'Outliers that joined it, the leader among them.';
comment on column issue_fingerprints.distances is 'Sum of their distances to the leader.';
comment on column issue_fingerprints.last_seen is 'Time of the latest of their samples.';

create table issue_never (
    one bigint not null references issue_fingerprints (id),
    other bigint not null references issue_fingerprints (id),
    at timestamptz not null,
    actor text not null,
    primary key (one, other),
    check (one < other)
);
comment on table issue_never is 'Fingerprints that somebody took apart: they are merged again only by who says so twice.';
comment on column issue_never.one is 'issue_fingerprints.id, the lower one.';
comment on column issue_never.other is 'issue_fingerprints.id, the higher one.';
comment on column issue_never.at is 'When.';
comment on column issue_never.actor is 'Who.';

create table issue_days (
    fingerprint bigint not null references issue_fingerprints (id) on delete cascade,
    day date not null,
    members bigint not null,
    primary key (fingerprint, day)
);
comment on table issue_days is 'Members of each fingerprint by day (UTC) of the samples. Kept as long as samples are.';
comment on column issue_days.fingerprint is 'issue_fingerprints.id';
comment on column issue_days.day is 'Of the samples.';
comment on column issue_days.members is 'How many joined.';

create table issue_scope_days (
    scope_id int not null references issue_scopes (id),
    day date not null,
    rows bigint not null,
    primary key (scope_id, day)
);
comment on table issue_scope_days is 'Samples that ran by day (UTC), for rates. Kept as long as samples are.';
comment on column issue_scope_days.scope_id is 'issue_scopes.id';
comment on column issue_scope_days.day is 'Of the batches.';
comment on column issue_scope_days.rows is 'Samples that ran; those that repeat a recent one are left out.';

create table issue_events (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    issue_id bigint not null references issues (id) on delete cascade,
    kind text not null,
    actor text not null,
    reason text not null
);
create index issue_events_issue on issue_events (issue_id, id);
comment on table issue_events is 'Every change of an issue''s state, and notes.';
comment on column issue_events.id is 'In the order they were recorded.';
comment on column issue_events.at is 'When, by the clock of the database.';
comment on column issue_events.issue_id is 'issues.id';
comment on column issue_events.kind is
    '`escalating`, `regressed`, `ongoing`, `resolved`, `archived`, `ignored`, `merged`, `unmerged`, `reopened` or `note`.';
comment on column issue_events.actor is 'The user who changed it; `recorder` where nobody did.';
comment on column issue_events.reason is 'Why, or the note.';

grant usage on sequence issue_numbers to recorder;
grant insert, update, delete on issues, issue_fingerprints, issue_days to recorder;
grant insert, update on issue_scopes, issue_scope_days to recorder;
grant delete on issue_scope_days to recorder;
grant insert, delete on issue_never to recorder;
grant insert on issue_events to recorder;
grant update (issue_id, fingerprint) on outliers to recorder;
