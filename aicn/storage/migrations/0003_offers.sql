-- Offers of nodes as they were heard, in their signed envelopes; this node's own last one among them, for its number.
create table offer (
    node text primary key,
    signed blob not null
) strict;
