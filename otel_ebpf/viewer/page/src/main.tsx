import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./theme.css";
import "./views.css";
import { Shell } from "./shell";
import { Empty } from "./ui/states";
import { href, listen, parts } from "./url";
import { AgentView } from "./views/agent";
import { LiveView } from "./views/live";
import { MapView } from "./views/map";
import { ServiceView } from "./views/service";
import { ServicesView } from "./views/services";
import { TraceView } from "./views/trace";
import { TracesView } from "./views/traces";

/** The view that the path names: /map, /services, /service/NAME, /traces, /trace/ID, /live, /agent. */
function View() {
  const [head = "map", name] = parts.value;
  if (head === "map") return <MapView />;
  if (head === "services") return <ServicesView />;
  if (head === "service" && name !== undefined) return <ServiceView key={name} name={name} />;
  if (head === "traces") return <TracesView />;
  if (head === "trace" && name !== undefined) return <TraceView key={name} id={name} />;
  if (head === "live") return <LiveView />;
  if (head === "agent") return <AgentView />;
  return <Empty title="There is no such view"><p><a href={href("/map")}>Go to the map</a></p></Empty>;
}

function App() {
  return <Shell><View /></Shell>;
}

listen();
const root = document.getElementById("app");
if (root) render(<App />, root);
