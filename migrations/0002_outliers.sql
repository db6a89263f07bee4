-- Watching a version: the alarm on its outliers, and windows of its traffic beside the baseline it was published with.

set local search_path to hoverboard, public;

-- The alarm -----------------------------------------------------------------------------------------------------------

create table alarms (
    version_id int primary key references model_versions (id),
    state text not null check (state in ('quiet', 'raised')),
    bound double precision not null,
    rows bigint not null,
    flagged bigint not null,
    log10_e double precision not null,
    recent_rows double precision not null,
    recent_flagged double precision not null,
    log_sums double precision[] not null,
    log_products double precision[] not null,
    since timestamptz[] not null,
    raised_at timestamptz,
    onset_at timestamptz,
    raised_log10_e double precision,
    raised_rows bigint,
    raised_flagged bigint,
    reset_at timestamptz,
    updated_at timestamptz not null,
    check ((state = 'raised') = (raised_at is not null))
);
comment on table alarms is
    'One row for each version with a calibrated detector: whether it finds more samples strange than it may.';
comment on column alarms.version_id is 'model_versions.id';
comment on column alarms.state is '`quiet`, or `raised` until somebody resets it.';
comment on column alarms.bound is 'The share of normal samples that may be flagged; 95% sure by the calibration.';
comment on column alarms.rows is 'Samples counted since the last reset; those that repeat a recent one are left out.';
comment on column alarms.flagged is 'Outliers among them.';
comment on column alarms.log10_e is
    'Decimal logarithm of the evidence, at least 0; the alarm is raised at that of the setting alarm_run_length.';
comment on column alarms.recent_rows is 'Samples counted, older ones with less weight: about the last ten thousand.';
comment on column alarms.recent_flagged is 'Outliers among them, likewise: recent_flagged / recent_rows is the rate now.';
comment on column alarms.log_sums is 'The evidence for each alternative rate, as natural logarithms.';
comment on column alarms.log_products is 'The same since the most likely time of a change.';
comment on column alarms.since is 'Those times.';
comment on column alarms.raised_at is 'Time of the samples that raised the alarm; null while it is quiet.';
comment on column alarms.onset_at is 'When what raised it seems to have begun; null while it is quiet.';
comment on column alarms.raised_log10_e is 'log10_e when it was raised; null while it is quiet.';
comment on column alarms.raised_rows is 'rows when it was raised; null while it is quiet.';
comment on column alarms.raised_flagged is 'flagged when it was raised; null while it is quiet.';
comment on column alarms.reset_at is 'When it was last reset; samples from before that do not count.';
comment on column alarms.updated_at is 'When the recorder last counted.';

create table alarm_events (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    version_id int not null references model_versions (id),
    kind text not null check (kind in ('raised', 'reset')),
    onset_at timestamptz,
    log10_e double precision,
    rows bigint,
    flagged bigint,
    bound double precision,
    run_length bigint,
    actor text,
    reason text
);
create index alarm_events_version_at on alarm_events (version_id, at);
comment on table alarm_events is 'Alarms that were raised, and resets.';
comment on column alarm_events.id is 'In the order they were recorded.';
comment on column alarm_events.at is 'Time of the samples that raised it, or of the reset.';
comment on column alarm_events.version_id is 'model_versions.id';
comment on column alarm_events.kind is '`raised` or `reset`.';
comment on column alarm_events.onset_at is 'When what raised it seems to have begun; null for a reset.';
comment on column alarm_events.log10_e is 'Decimal logarithm of the evidence; null for a reset.';
comment on column alarm_events.rows is 'Samples counted since the reset before; null for a reset.';
comment on column alarm_events.flagged is 'Outliers among them; null for a reset.';
comment on column alarm_events.bound is 'The share of normal samples that may be flagged; null for a reset.';
comment on column alarm_events.run_length is
    'The setting alarm_run_length: samples between two false alarms, on average, at least; null for a reset.';
comment on column alarm_events.actor is 'Who reset it; null where it was raised.';
comment on column alarm_events.reason is 'Why, as the actor put it; null without.';

-- Drift ---------------------------------------------------------------------------------------------------------------

create table baselines (
    version_id int not null references model_versions (id),
    position int not null,
    feature text not null,
    side text not null,
    tensor text not null,
    reading text not null,
    element int not null,
    missing boolean not null,
    cuts double precision[] not null,
    categories text[] not null,
    counts bigint[] not null,
    bins text[] not null,
    primary key (version_id, position),
    unique (version_id, feature)
);
comment on table baselines is
    'What a version''s traffic looked like when it was published: one row a feature, as in its baseline.arrow.';
comment on column baselines.version_id is 'model_versions.id';
comment on column baselines.position is 'Order of the features, from 0.';
comment on column baselines.feature is 'Name, such as `pixels[17]`, `title.length` or `confidence`.';
comment on column baselines.side is '`input`, `output` or `prediction`.';
comment on column baselines.tensor is 'Name of the input or output, or `label`, `confidence`, `value`, `p_value`.';
comment on column baselines.reading is 'What is read of it, such as `element`, `mean` or `category`.';
comment on column baselines.element is 'Index in the flattened tensor, for `element`.';
comment on column baselines.missing is 'Whether the last bin is for NaN.';
comment on column baselines.cuts is 'Ascending numbers between the bins; empty for categories.';
comment on column baselines.categories is 'Texts that have a bin of their own; empty for numbers.';
comment on column baselines.counts is 'Samples of the reference in each bin.';
comment on column baselines.bins is 'The bins in words.';

create table drift_state (
    version_id int primary key references model_versions (id),
    number bigint not null,
    rows int not null,
    weight double precision not null,
    weight_squared double precision not null,
    first_at timestamptz,
    last_at timestamptz,
    counts bytea not null,
    updated_at timestamptz not null
);
comment on table drift_state is 'The window that each version is filling; the recorder''s own.';
comment on column drift_state.version_id is 'model_versions.id';
comment on column drift_state.number is 'drift_windows.number once it is full.';
comment on column drift_state.rows is 'Recorded samples so far.';
comment on column drift_state.weight is 'The sum of 1 / incl_prob over them.';
comment on column drift_state.weight_squared is 'The sum of its squares.';
comment on column drift_state.first_at is 'Time of the first of their batches; null before it.';
comment on column drift_state.last_at is 'Time of the last of their batches; null before it.';
comment on column drift_state.counts is 'Weights in the bins of all features in order: float64, little-endian, zlib.';
comment on column drift_state.updated_at is 'When the recorder last counted.';

create table drift_windows (
    version_id int not null, -- no foreign key: checking it for each row takes as long as inserting it
    number bigint not null,
    feature text not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    closed_at timestamptz not null,
    rows int not null,
    n double precision not null,
    p_value double precision not null,
    q_value double precision not null,
    js double precision not null,
    drifted boolean not null,
    counts jsonb not null,
    primary key (version_id, number, feature)
);
create index drift_windows_closed_at on drift_windows using brin (closed_at);
comment on table drift_windows is
    'Windows of a version''s traffic beside its baseline: one row a feature. Kept as long as samples are.';
comment on column drift_windows.version_id is 'model_versions.id';
comment on column drift_windows.number is 'Counts the windows of a version from 1.';
comment on column drift_windows.feature is 'baselines.feature';
comment on column drift_windows.first_at is 'Time of the first batch in it.';
comment on column drift_windows.last_at is 'Time of the last batch in it.';
comment on column drift_windows.closed_at is 'When it was full and judged.';
comment on column drift_windows.rows is 'Recorded samples in it.';
comment on column drift_windows.n is
    'Samples that this feature could be read of; under the policy `sampled`, how many unweighted ones they are worth.';
comment on column drift_windows.p_value is 'Of the G-test against the baseline''s counts.';
comment on column drift_windows.q_value is 'The same, adjusted for all features of the window (Benjamini-Hochberg).';
comment on column drift_windows.js is 'Jensen-Shannon divergence from the baseline in bits, 0 to 1: the size of the change.';
comment on column drift_windows.drifted is 'Whether q_value is at most 0.05 and js at least 0.05.';
comment on column drift_windows.counts is 'How many samples were in each of baselines.bins; weighted by 1 / incl_prob.';

-- Privileges ----------------------------------------------------------------------------------------------------------

grant insert on alarms, alarm_events, baselines, drift_state, drift_windows to recorder;
grant update on alarms, drift_state to recorder;
grant update (detector, scores) on outliers to recorder;
grant delete on drift_windows to recorder;
