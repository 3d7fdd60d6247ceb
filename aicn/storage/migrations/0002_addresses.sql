-- Where peers were reached before: one row per address that was connected to at least once.
create table address (
    peer         text    not null,
    address      text    not null, -- multiaddr without /p2p/<peer>
    connected_at real    not null, -- Unix time of the last success
    successes    integer not null,
    failures     integer not null, -- in a row, since the last success
    primary key (peer, address)
) strict, without rowid;
