-- The whole store. Times are Unix nanoseconds, durations nanoseconds. Attributes are the OTLP attributes as one JSON
-- object, without blanks (`{"http.route":"/users/{id}","server.port":8080}`), so that `contains(attributes,
-- '"server.port":8080')` finds a pair without parsing. A signal that comes later (profiles) adds its table here, one
-- module in decode/ and one path in receiver/.
CREATE TABLE meta(key VARCHAR PRIMARY KEY, value VARCHAR);

-- One row for each distinct OTLP Resource; `resource` everywhere else is its id, a hash of its attributes.
CREATE TABLE resources(id UBIGINT PRIMARY KEY, service VARCHAR, attributes VARCHAR);

CREATE TABLE spans(
    start BIGINT,                 -- in the order of arrival, which is nearly that of time: DuckDB skips by its zone maps
    duration BIGINT,
    trace_high UBIGINT,           -- the trace id, big endian; W3C trace-context level 2: the low half is the random one
    trace_low UBIGINT,
    span_id UBIGINT,
    parent_id UBIGINT,            -- 0: a root
    service VARCHAR,
    resource UBIGINT,
    kind UTINYINT,                -- OTLP SpanKind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer
    status UTINYINT,              -- OTLP StatusCode: 0 unset, 1 ok, 2 error
    name VARCHAR,
    message VARCHAR,              -- of the status
    scope VARCHAR,
    attributes VARCHAR,
    events VARCHAR,               -- JSON: [{"time":ns as text,"name":…,"attributes":{…}}], or NULL
    links VARCHAR,                -- JSON: [{"trace_id":hex,"span_id":hex,"attributes":{…}}], or NULL
    sign_a UBIGINT,               -- 192 bits in which each pair of `attributes` has set its own (decode/signature.py)
    sign_b UBIGINT,
    sign_c UBIGINT
);

CREATE TABLE logs(
    time BIGINT,
    trace_high UBIGINT,           -- 0, 0: of no trace
    trace_low UBIGINT,
    span_id UBIGINT,
    service VARCHAR,
    resource UBIGINT,
    severity UTINYINT,            -- OTLP SeverityNumber, 0 to 24
    body VARCHAR,
    event VARCHAR,                -- event_name
    attributes VARCHAR
);

-- Data points. Of a histogram: its count, sum and buckets; of anything else: its value.
CREATE TABLE points(
    time BIGINT,
    name VARCHAR,
    unit VARCHAR,
    type UTINYINT,                -- 1 gauge, 2 sum, 3 histogram, 4 exponential histogram (buckets made explicit), 5 summary
    monotonic BOOLEAN,
    delta BOOLEAN,
    service VARCHAR,
    resource UBIGINT,
    attributes VARCHAR,
    start BIGINT,
    value DOUBLE,
    count UBIGINT,
    sum DOUBLE,
    bounds DOUBLE[],              -- upper bounds, one fewer than counts
    counts UBIGINT[]
);

-- What all spans of an operation add up to, by 10 s (older: by minute), written with the spans themselves. A span is
-- counted in the row of its duration's bucket: `bucket` = floor(4 * log2(duration in ns)), so the bucket's upper bound
-- is 2^((bucket+1)/4) ns. Partial rows of one key occur until they are gathered: always sum.
CREATE TABLE operations(
    time BIGINT,
    service VARCHAR,
    kind UTINYINT,
    name VARCHAR,
    system VARCHAR,               -- db.system.name, messaging.system, rpc.system, "http", "dns", or ""
    bucket UTINYINT,
    calls UBIGINT,
    failed UBIGINT,
    sum UBIGINT                   -- of durations
);

-- The same for who calls whom. An edge is known when both of its spans are there, or one has waited for long enough.
CREATE TABLE edges(
    time BIGINT,
    client VARCHAR,               -- service.name, or what is known of the address
    server VARCHAR,
    connection_type VARCHAR,      -- as in Tempo's service graphs: "", messaging_system, database, virtual_node
    client_kind VARCHAR,          -- service, or external (nothing of it was seen but its address)
    server_kind VARCHAR,          -- service, database, messaging, external
    system VARCHAR,
    bucket UTINYINT,              -- of the client's duration; of the server's, where there is no client span
    server_bucket UTINYINT,       -- of the server's duration; of the client's, where there is no server span
    calls UBIGINT,
    failed UBIGINT,
    sum UBIGINT,
    server_sum UBIGINT
);

-- Ends of edges whose other end has not come yet.
CREATE TABLE ends(
    arrived BIGINT,
    time BIGINT,
    trace_low UBIGINT,
    span_id UBIGINT,
    parent_id UBIGINT,
    client BOOLEAN,               -- a client or producer span; else a server or consumer span
    matched BOOLEAN,              -- a client that an edge was made of already; it waits for further servers
    service VARCHAR,
    peer VARCHAR,                 -- what the span itself calls the other end
    system VARCHAR,
    family VARCHAR,               -- of the system: service, database or messaging
    duration BIGINT,
    failed BOOLEAN
);

-- What was refused, dropped or lost on the way to this store, by the viewer or as an agent said; shown wherever data is.
CREATE TABLE losses(time BIGINT, what VARCHAR, reason VARCHAR, count UBIGINT);
