// Is what the page shows all there was? The agents' health, cost and losses, and the viewer's own state.

import "../waterfall/waterfall.css";
import "../agent/agent.css";
import type { Agents, Status } from "../api";
import { AgentCard } from "../agent/card";
import { Start } from "../agent/start";
import { Viewer } from "../agent/viewer";
import { sum } from "../agent/words";
import { useGet } from "../fetch";
import { exact, plural } from "../format";
import { Empty, ErrorState, Loading } from "../ui/states";

export function AgentView() {
  const agents = useGet<Agents>("agents", {}, { keep: true });
  const status = useGet<Status>("status", {}, { poll: 5000, windowed: false });
  const lost = agents.data?.agents.reduce((all, agent) => all + sum(agent.losses), 0) ?? 0;
  return (
    <div class="page agents">
      <div class="title">
        <h1 class="grow">Agents {agents.data && agents.data.agents.length > 1 && <span class="muted">{agents.data.agents.length}</span>}</h1>
        {agents.data && agents.data.agents.length > 0 && (
          <p class="verdict" role="status">{lost === 0
            ? <><span class="ok" aria-hidden="true">●</span> Nothing lost in this window.</>
            : <><span class="warn" aria-hidden="true">▲</span> {exact(lost)} lost in this window; each is listed below by its reason.</>}</p>
        )}
      </div>
      {agents.error && agents.data && <p class="note" role="alert"><span class="bad" aria-hidden="true">◆</span> {agents.error.message} What is shown may be old.</p>}
      {!agents.data
        ? agents.error ? <ErrorState error={agents.error} retry={agents.reload} /> : <Loading />
        : agents.data.agents.length === 0 ? <NoAgents status={status.data} />
          : agents.data.agents.map((agent) => <AgentCard key={`${agent.host} ${agent.instance}`} agent={agent} end={agents.data?.end ?? 0} />)}
      {status.data ? <Viewer status={status.data} /> : status.error && <ErrorState error={status.error} retry={status.reload} />}
    </div>
  );
}

/** Data without an agent is that of SDKs; no data at all is the first minute. */
function NoAgents({ status }: { status: Status | null }) {
  return (
    <div class="panel">
      <Empty title="No agent reports in this window">
        <p>{status && status.store.spans > 0
          ? `The ${plural(status.store.spans, "span")} here came from OpenTelemetry SDKs or a Collector. These do not tell what they lost; an agent does.`
          : "Nothing has come in yet."} An agent on a host sees all requests of its services, without changing them.</p>
        <Start status={status} />
      </Empty>
    </div>
  );
}
