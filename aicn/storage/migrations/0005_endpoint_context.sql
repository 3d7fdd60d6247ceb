-- How long a conversation an endpoint takes, tokens; 0: the operator did not say.
alter table endpoint add column context integer not null default 0;
