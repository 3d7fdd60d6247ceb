-- What is registered on this node: one row per model endpoint.
create table endpoint (
    project  text    not null,
    position integer not null, -- place within the project, as it was registered
    model    text    not null,
    url      text    not null,
    type     integer not null,
    primary key (project, position)
) strict, without rowid;
