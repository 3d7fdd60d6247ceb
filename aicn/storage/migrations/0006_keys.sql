-- API keys. The secret itself is nowhere; a revoked key is deleted.
create table api_key (
    id                  text primary key,
    name                text    not null,
    digest              blob    not null, -- SHA-256 of the secret's 256 random bits
    models              text    not null, -- JSON: [pattern, …]; []: all
    requests_per_minute integer not null, -- 0, here and below: no limit
    tokens_per_day      integer not null,
    concurrency         integer not null,
    expires_at          real    not null, -- Unix time; 0: never
    admin               integer not null, -- 0 or 1
    created_at          real    not null  -- Unix time
) strict;

-- What was asked of models through this node's API, by the hour.
create table usage (
    hour              integer not null, -- Unix time of its beginning
    key               text    not null, -- id; empty: none
    project           text    not null, -- empty, as model: failed before a model answered
    model             text    not null,
    peer              text    not null, -- who answered; empty: nobody
    requests          integer not null,
    failed            integer not null,
    prompt_tokens     integer not null,
    completion_tokens integer not null,
    estimated_tokens  integer not null, -- charged where the endpoint did not count
    bytes_in          integer not null,
    bytes_out         integer not null,
    primary key (hour, key, project, model, peer)
) strict, without rowid;
