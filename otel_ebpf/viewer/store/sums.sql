-- What is written beside the spans of a transaction; `batch` is their Arrow table.

-- name: operations
INSERT INTO operations
SELECT
    start - start % 10000000000 AS time,
    service,
    kind,
    operation AS name,
    system,
    bucket,
    count(*) AS calls,
    count(*) FILTER (status = 2) AS failed,
    least(sum(duration), 18446744073709551615)::UBIGINT AS sum
FROM (SELECT *, least(floor(4 * log2(greatest(duration, 1))), 255)::UTINYINT AS bucket FROM batch)
GROUP BY ALL;

-- name: ends
INSERT INTO ends
SELECT
    ? AS arrived, start, trace_low, span_id, parent_id, kind IN (3, 4), false, service, peer, system, family, duration,
    status = 2
FROM batch
WHERE kind BETWEEN 2 AND 5;

-- name: pairs
-- Both ends are there. The connection is a plain one, whatever is spoken: what the server is, its kind says. Of clients
-- with one id (something was sent twice, or made up) the first stands for all: else there would be clients times servers
-- pairs.
CREATE OR REPLACE TEMP TABLE paired AS
SELECT s.rowid AS server_row, c.trace_low, c.span_id AS client_span, c.time, c.service AS client, s.service AS server,
    s.system, s.family, c.duration, s.duration AS server_duration, c.failed OR s.failed AS failed
FROM ends s JOIN (
    SELECT trace_low, span_id, min(rowid) AS first FROM ends WHERE client GROUP BY trace_low, span_id
) k ON s.parent_id = k.span_id AND s.trace_low = k.trace_low JOIN ends c ON c.rowid = k.first
WHERE NOT s.client;

-- name: paired_edges
INSERT INTO edges
SELECT
    time - time % 10000000000,
    client,
    server,
    CASE family WHEN 'messaging' THEN 'messaging_system' ELSE '' END,
    'service',
    family,
    system,
    least(floor(4 * log2(greatest(duration, 1))), 255)::UTINYINT AS bucket,
    least(floor(4 * log2(greatest(server_duration, 1))), 255)::UTINYINT AS server_bucket,
    count(*),
    count(*) FILTER (failed),
    least(sum(duration), 18446744073709551615)::UBIGINT,
    least(sum(server_duration), 18446744073709551615)::UBIGINT
FROM paired
GROUP BY ALL;

-- name: paired_done
UPDATE ends SET matched = true
WHERE client AND NOT matched AND (trace_low, span_id) IN (SELECT (trace_low, client_span) FROM paired);
DELETE FROM ends WHERE rowid IN (SELECT server_row FROM paired);

-- name: lonely_edges
-- The other end of these will not come: a server's span without parent, or one that has waited for long enough.
INSERT INTO edges
SELECT
    time - time % 10000000000,
    CASE WHEN client THEN service ELSE peer END AS client_name,
    CASE WHEN client THEN peer ELSE service END AS server_name,
    CASE
        WHEN client AND family = 'database' THEN 'database'
        WHEN family = 'messaging' THEN 'messaging_system'
        ELSE 'virtual_node'
    END,
    CASE WHEN client THEN 'service' ELSE 'external' END,
    CASE WHEN client AND family = 'service' THEN 'external' ELSE family END,
    system,
    least(floor(4 * log2(greatest(duration, 1))), 255)::UTINYINT AS bucket,
    bucket,
    count(*),
    count(*) FILTER (failed),
    least(sum(duration), 18446744073709551615)::UBIGINT,
    least(sum(duration), 18446744073709551615)::UBIGINT
FROM ends
WHERE NOT matched AND (arrived < $before OR (NOT client AND parent_id = 0))
GROUP BY ALL;

-- name: lonely_done
DELETE FROM ends WHERE arrived < $before OR (NOT client AND parent_id = 0);
