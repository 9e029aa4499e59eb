// One agent: is it well, what did it lose, what does it not see, what does it cost.

import type { ComponentChildren } from "preact";
import type { Agent } from "../api";
import { ago, bytes, count, exact, percent, rate, span } from "../format";
import { Chip } from "../ui/chip";
import { Meter } from "./meter";
import { type Loss, placeWords, reasonWords, SILENT_MS, sum } from "./words";

export function AgentCard({ agent, end }: { agent: Agent; end: number }) {
  const silent = end - agent.seen > SILENT_MS;
  const { losses, unread, retried } = agent;
  const lost = sum(losses);
  return (
    <section class="panel agent" aria-label={`Agent on ${agent.host}`}>
      <header class="agent-head">
        <h2>{agent.host || "unknown host"}</h2>
        {silent
          ? <Chip tone="bad">◆ silent: last seen {ago(agent.seen, end)}</Chip>
          : <Chip tone="ok">● seen {ago(agent.seen, end)}</Chip>}
        {lost > 0 && <Chip tone="warn">▲ {exact(lost)} lost</Chip>}
        {agent.failures.length > 0 && <Chip tone="warn">▲ {agent.failures.length} not attached</Chip>}
        <span class="grow" />
        <span class="muted agent-version">{agent.version && <>version {agent.version}</>}{agent.instance && <> · <span class="mono" title={agent.instance}>{agent.instance.slice(0, 12)}</span></>}</span>
      </header>
      <dl class="agent-figures">
        <Figure title="Exchanges" hint={agent.seconds > 0 ? `mean; ${exact(agent.exchanges)} in ${span(agent.seconds * 1000)}` : "one report so far"}>{agent.seconds > 0 ? rate(agent.exchanges / agent.seconds) : "–"}</Figure>
        <Figure title="Spans" hint="before sampling">{agent.seconds > 0 ? rate(agent.spans_per_second) : "–"}</Figure>
        <Figure title="CPU" hint="of one core">{agent.cpu === null ? "–" : percent(agent.cpu)}</Figure>
        <Figure title="Memory" hint="resident">{bytes(agent.rss_bytes)}</Figure>
        <Figure title="BPF programs" hint="of one core, in the kernel">{agent.programs.length ? percent(agent.programs.reduce((sum, program) => sum + program.cpu, 0)) : "–"}</Figure>
      </dl>
      <div class="agent-parts">
        <Part title="Losses"><Losses losses={losses} /></Part>
        {unread.length > 0 && (
          <Part title="Not understood">
            <p class="muted">Seen, but in no protocol that the agent reads, or not as its protocol says: counted, and no spans are made of them.</p>
            <Counts losses={unread} caption="What was not understood, by protocol" title="How" tone="" />
          </Part>
        )}
        {retried.length > 0 && <Part title="Sending failed, tried again"><Counts losses={retried} caption="Failed exports, by error" title="What" tone="" /></Part>}
        <Part title="Not attached"><Failures agent={agent} /></Part>
        <Part title="Rings, filled">{agent.ring_fill.length ? agent.ring_fill.map((ring) => <Meter key={ring.ring} label={ring.ring} ratio={ring.ratio} />) : <p class="muted">Not told.</p>}</Part>
        <Part title="Stages of the agent, time by the clock"><Stages agent={agent} /></Part>
        <Part title="BPF programs, cost" wide><Programs agent={agent} /></Part>
      </div>
    </section>
  );
}

function Figure({ title, hint, children }: { title: string; hint: string; children: ComponentChildren }) {
  return <div><dt>{title}</dt><dd><strong>{children}</strong><span class="muted">{hint}</span></dd></div>;
}

function Part({ title, wide = false, children }: { title: string; wide?: boolean; children: ComponentChildren }) {
  return <section class={wide ? "agent-part wide" : "agent-part"}><h3>{title}</h3>{children}</section>;
}

function Losses({ losses }: { losses: readonly Loss[] }) {
  if (losses.length === 0) return <p class="good"><span class="ok" aria-hidden="true">●</span> Nothing lost in this window.</p>;
  return <Counts losses={losses} caption="Losses by place and reason" title="Where and why" tone="warn" />;
}

function Counts({ losses, caption, title, tone }: { losses: readonly Loss[]; caption: string; title: string; tone: "warn" | "" }) {
  return (
    <table class="plain">
      <caption class="visually-hidden">{caption}</caption>
      <thead><tr><th scope="col">{title}</th><th scope="col" class="number">{tone ? "Lost" : "Count"}</th><th scope="col" class="number">Rate</th></tr></thead>
      <tbody>
        {losses.map((loss) => (
          <tr key={`${loss.metric} ${loss.reason}`}>
            <th scope="row" title={`${loss.metric}: ${loss.reason}`}><span>{placeWords(loss.metric)}</span>: <span class="muted">{reasonWords(loss.metric, loss.reason)}</span></th>
            <td class={`number ${tone}`}>{exact(loss.count)}</td><td class="number muted">{rate(loss.per_second)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Failures({ agent }: { agent: Agent }) {
  if (agent.failures.length === 0) return <p class="good"><span class="ok" aria-hidden="true">●</span> All programs are attached.</p>;
  return (
    <ul class="failures">
      {agent.failures.map((failure) => (
        <li key={`${failure.what} ${failure.reason}`}><span class="warn" aria-hidden="true">▲</span><span><span class="mono">{failure.what}</span>{failure.count > 1 && <span class="muted"> × {exact(failure.count)}</span>}<br /><span class="muted">{failure.reason}</span></span></li>
      ))}
      <li class="muted">Run <code>otel-ebpf doctor</code> on the host: it names the remedy.</li>
    </ul>
  );
}

function Stages({ agent }: { agent: Agent }) {
  if (agent.stages.length === 0) return <p class="muted">Not told.</p>;
  const stages = [...agent.stages].sort((one, other) => other.cpu - one.cpu);
  const most = Math.max(...stages.map((stage) => stage.cpu), 1e-9);
  return (
    <>
      {stages.map((stage) => (
        <div class="meter" key={stage.stage}>
          <span class="meter-label clip" title={stage.stage}>{stage.stage}</span>
          <span class="meter-bar" aria-hidden="true"><span style={{ width: `${100 * stage.cpu / most}%` }} /></span>
          <span class="meter-value">{percent(stage.cpu)}</span>
        </div>
      ))}
    </>
  );
}

function Programs({ agent }: { agent: Agent }) {
  if (agent.programs.length === 0) return <p class="muted">Not told: the kernel counts this only while <code>kernel.bpf_stats_enabled</code> is 1.</p>;
  const programs = [...agent.programs].sort((one, other) => other.cpu - one.cpu);
  return (
    <div class="scroll">
      <table class="plain">
        <caption class="visually-hidden">BPF programs and what they cost</caption>
        <thead><tr><th scope="col">Program</th><th scope="col" class="number">Runs</th><th scope="col" class="number">Each</th><th scope="col" class="number">CPU</th></tr></thead>
        <tbody>
          {programs.map((program) => (
            <tr key={program.program}>
              <th scope="row" class="mono">{program.program}</th>
              <td class="number">{rate(program.runs_per_second)}</td><td class="number">{`${count(program.ns_per_run)}\u202fns`}</td><td class="number">{percent(program.cpu)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
