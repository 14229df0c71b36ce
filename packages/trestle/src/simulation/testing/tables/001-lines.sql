create table line (id text primary key, account text not null, cents integer not null) strict;
