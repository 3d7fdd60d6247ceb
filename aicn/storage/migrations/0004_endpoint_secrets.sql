-- What is sent to an endpoint with each request. Readable as it must be sent; the file is its owner's alone (mode 0600).
alter table endpoint add column headers text not null default '[]'; -- JSON: [[name, value], …]
alter table endpoint add column api_key text not null default '';   -- empty: none
