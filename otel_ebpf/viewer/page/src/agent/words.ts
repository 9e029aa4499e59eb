// What agents count, in words (otel_ebpf.losses and its kin).

import type { Agent } from "../api";

export type Loss = Agent["losses"][number];

export const sum = (losses: readonly Loss[]): number => losses.reduce((all, loss) => all + loss.count, 0);


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
  late_amendment: "a streaming response went on after its span had been sent: the span ends too early and has too few bytes",
  held_too_many: "too many spans waited for their parents",
  slow_reader: "the terminal or pipe did not take the lines fast enough",
  queue_full: "the queue for export was full: the backend is slow or away",
  too_many_series: "more combinations of attributes than metrics keep",
  too_many_edges: "more edges than the service graph keeps",
  server_end_late: "the server's end came after its edge had been counted",
  waiting_too_many: "too many ends waited for the other one",
  too_many_addresses: "more addresses than are remembered",
}));

/** What a picture lacks for a loss that changes what is seen, after its number: "35 responses that …". One and many. */
const LACKS = new Map<string, readonly [string, string]>(Object.entries({
  ring_full_exchange: ["message of a request is missing: the agent was too busy to read it (give it more CPU, or exclude what need not be seen)", "messages of requests are missing: the agent was too busy to read them (give it more CPU, or exclude what need not be seen)"],
  late_amendment: ["response that went on after a pause (a stream) is shown shorter than it was", "responses that went on after a pause (streams) are shown shorter than they were"],
  other_end_missing: ["call is shown without its content: only its client's end was seen", "calls are shown without their content: only their clients' ends were seen"],
  held_too_many: ["span may stand in a trace of its own: too many waited for their parents", "spans may stand in traces of their own: too many waited for their parents"],
  ring_full_connection: ["connection is not known: its requests are missing (the agent did not read fast enough)", "connections are not known: their requests are missing (the agent did not read fast enough)"],
  ring_full_process: ["process may be without its name: the agent did not read fast enough", "processes may be without their names: the agent did not read fast enough"],
  unknown_connection: ["request is missing: the agent does not know its connection", "requests are missing: the agent does not know their connections"],
  server_end_late: ["edge of the map counts a call by its client alone: the server's end came late", "calls are counted on the map by their clients alone: the servers' ends came late"],
  queue_full: ["item of an agent did not get here: its queue was full (the viewer was slow or away)", "items of agents did not get here: their queues were full (the viewer was slow or away)"],
  slow_reader: ["line of an agent's own output is missing; nothing is here", "lines of an agent's own output are missing; nothing is here"],
}));

/** "responses that went on after a pause (streams) are shown shorter than they were": what the picture lacks, after the
 *  number. says: what the API says of it, for reasons that are not known here. */
export function lackWords(place: string, reason: string, count: number, says: string): string {
  const known = LACKS.get(reason);
  if (known) return known[count === 1 ? 0 : 1];
  return `lost by an agent (${place}): ${says || reasonWords("", reason)}`;
}

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
