-- Comparisons of versions on recorded samples, as `hoverboard replay` made them.

set local search_path to hoverboard, public;

create table replays (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    actor text not null,
    model text not null,
    incumbent bigint not null,
    incumbent_sha256 text not null,
    candidate bigint not null,
    candidate_sha256 text not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    conditions jsonb not null,
    rows bigint not null,
    noise_floor double precision not null,
    noise_runs int not null,
    fixed bigint not null,
    broken bigint not null,
    changed bigint not null,
    noise bigint not null,
    failed bigint not null,
    result jsonb not null
);
create index replays_model_at on replays (model, at);
comment on table replays is
    'Versions compared on recorded samples by `hoverboard replay`. Holds no sample and no input, so nothing is to be erased here.';
comment on column replays.id is 'In the order they were kept.';
comment on column replays.at is 'When it was done.';
comment on column replays.actor is 'The user of the machine where it ran.';
comment on column replays.model is 'Name of the model.';
comment on column replays.incumbent is 'Number of the version whose answers were recorded.';
comment on column replays.incumbent_sha256 is 'SHA-256 of its artifact, in hex.';
comment on column replays.candidate is 'Number of the version that was compared with it; it may never have served.';
comment on column replays.candidate_sha256 is 'SHA-256 of its artifact, in hex.';
comment on column replays.first_at is 'From when on samples were replayed.';
comment on column replays.last_at is 'Until when.';
comment on column replays.conditions is 'Which samples: `where`, `labelled`, `issue`.';
comment on column replays.rows is 'Samples replayed.';
comment on column replays.noise_floor is
    'Numbers that are no further apart are the same: the 99.9% quantile of what the incumbent differs from its own record by.';
comment on column replays.noise_runs is 'How often the incumbent was run again.';
comment on column replays.fixed is 'Labelled samples that only the candidate gets right.';
comment on column replays.broken is 'Labelled samples that only the incumbent got right.';
comment on column replays.changed is 'Other samples with another answer.';
comment on column replays.noise is 'Samples in which the incumbent differs from its own record.';
comment on column replays.failed is 'Samples that the candidate has no answer to.';
comment on column replays.result is 'All of it, as `hoverboard replay --json` prints it, without examples.';

grant insert on replays to recorder;
