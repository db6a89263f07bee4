-- Replays were kept with the tags and the caller of their samples for ever: also once all of those samples had been erased.

set local search_path to hoverboard, public;

grant update (conditions, result) on replays to recorder;
comment on table replays is
    'Versions compared on recorded samples by `hoverboard replay`. Holds no sample and no input. Values of tags and callers that it was about are '
    'forgotten once no such sample is on record.';
comment on column replays.conditions is
    'Which samples: `where`, `unless`, `labelled`, `issue` and what is left out. `(erased or expired)` stands for a tag''s value, or a caller, of which no sample is on record.';
