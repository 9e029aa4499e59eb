// What agents count, in words (otel_ebpf.losses and its kin).

const REASONS = new Map<string, string>(Object.entries({
  ring_full_exchange: "the ring of exchanges was full: the agent did not read fast enough",
  ring_full_connection: "the ring of connections was full",
  ring_full_process: "the ring of processes was full",
  no_state: "no memory for a connection's state",
  no_payload_state: "no memory for a message's payload",
  payload_fault: "a program's buffer could not be read (its page was not in memory)",
  peer_table_full: "the table of peers was full",
  tls_unbound: "plaintext of a TLS connection whose socket is not known",
  tls_state_full: "the table of TLS connections was full",
  no_thread_state: "no memory for a thread's state: its messages have no payload and no cause",
  query_table_full: "a DNS question could not be remembered",
  unknown_connection: "of a connection that the agent does not know",
  pipeline_cut: "a pipeline of requests was longer than what is captured of it",
  no_request_bytes: "nothing of the request was captured",
  pipeline_given_up: "a pipeline whose answers could not be matched",
  other_end_missing: "the other end of the connection did not come in time",
  late_amendment: "an addition to an exchange came after it had been sent",
  held_too_many: "too many spans waited for their parents",
  slow_reader: "the terminal or pipe did not take the lines fast enough",
  queue_full: "the queue for export was full: the backend is slow or away",
  too_many_series: "more combinations of attributes than metrics keep",
  too_many_edges: "more edges than the service graph keeps",
  server_end_late: "the server's end came after its edge had been counted",
  waiting_too_many: "too many ends waited for the other one",
  too_many_addresses: "more addresses than are remembered",
}));

/** Words for a reason; one that is not known here, as it is. */
export function reasonWords(metric: string, reason: string): string {
  if (metric.startsWith("otel_ebpf.parse.failures")) return reason === "unknown" ? "in no protocol that the agent knows" : `as ${reason}`;
  return REASONS.get(reason) ?? reason.replaceAll("_", " ");
}

/** "otel_ebpf.losses kernel" → what was lost: "kernel"; other counters by what they count. */
export function placeWords(metric: string): string {
  const [name = "", ...place] = metric.split(" ");
  if (name === "otel_ebpf.losses") return place.join(" ") || "losses";
  if (name === "otel_ebpf.parse.failures") return "could not be read";
  if (name === "otel_ebpf.export.errors") return `export of ${place.join(" ")} failed (tried again)`;
  return metric;
}

/** After this time without a report an agent is called silent: three of its usual intervals of at most 30 s. */
export const SILENT_MS = 90_000;
