// How data gets into this viewer: the agent's command, with the address by which others reach it, and the token if it asks
// for one.

import type { Status } from "../api";
import { useGet } from "../fetch";
import { Copy } from "../ui/copy";

/** An address that only says "all of them" is no destination: the name by which this page was reached is one. */
function reached(address: string): string {
  const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(address) ?? [];
  return ["0.0.0.0", "[::]", "::", ""].includes(host) ? `${window.location.hostname || "127.0.0.1"}:${port}` : address;
}

const LOOPBACK = /^(127\.|localhost[.:]|localhost$|\[?::1)/;

/** status: null while it is not known. */
export function startCommand(listen: { grpc: string; http: string } | undefined, page = window.location.protocol): { command: string; token: boolean } {
  const address = reached(listen?.grpc || listen?.http || "127.0.0.1:4317");
  const token = !LOOPBACK.test(listen?.grpc || listen?.http || "127.0.0.1:4317");
  const scheme = page === "https:" ? "https" : "http";
  const run = `otel-ebpf run --otlp-endpoint ${scheme}://${address}`;
  return { command: token ? `sudo OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer TOKEN" ${run}` : `sudo ${run}`, token };
}

export function Start({ status }: { status: Status | null }) {
  const { command, token } = startCommand(status?.listen);
  const { listen } = status ?? {};
  return (
    <>
      <p>On the host whose requests you want to see:</p>
      <div class="command"><pre>{command}</pre><Copy text={command} label="Copy the command" /></div>
      {token && <p class="muted">TOKEN is this viewer's: the one with which you opened this page. Without a token set, take the part in front of <code>otel-ebpf</code> away.</p>}
      <p>Or send from any OpenTelemetry SDK or Collector, by OTLP{listen?.grpc && <> over gRPC to <code>{reached(listen.grpc)}</code></>}{listen?.grpc && listen.http && " or"}{listen?.http && <> over HTTP to <code>{reached(listen.http)}</code></>}. <code>otel-ebpf doctor</code> tells what a host allows.</p>
    </>
  );
}

/** The same where the status is not at hand. */
export function StartHere() {
  const { data } = useGet<Status>("status", {}, { poll: false, windowed: false });
  return <Start status={data} />;
}
