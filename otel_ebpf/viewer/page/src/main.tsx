import { Component, type ComponentChildren, render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./theme.css";
import "./views.css";
import { Shell } from "./shell";
import { Empty } from "./ui/states";
import { href, listen, parts, place } from "./url";
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
  // Whoever types an address takes the list's name for the thing's: /services/shop is /service/shop.
  if ((head === "service" || head === "services") && name !== undefined) return <ServiceView key={name} name={name} />;
  if (head === "services") return <ServicesView />;
  if ((head === "trace" || head === "traces") && name !== undefined) return <TraceView key={name} id={name} />;
  if (head === "traces") return <TracesView />;
  if (head === "live") return <LiveView />;
  if (head === "agent") return <AgentView />;
  return <Empty title="There is no such view"><p><a href={href("/map")}>Go to the map</a></p></Empty>;
}

/** A view that fails says so, and leaves the others within reach. */
class Guard extends Component<{ path: string; children: ComponentChildren }, { failed: string | null; path: string }> {
  override state = { failed: null, path: "" };

  static override getDerivedStateFromProps(props: { path: string }, state: { path: string }) {
    return props.path === state.path ? null : { failed: null, path: props.path };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
    this.setState({ failed: error instanceof Error ? error.message : String(error) });
  }

  override render() {
    const { failed } = this.state;
    return failed === null ? this.props.children : <Empty title="This view failed"><p>{failed}</p></Empty>;
  }
}

function App() {
  return <Shell><Guard path={place.value.path}><View /></Guard></Shell>;
}

listen();
const root = document.getElementById("app");
if (root) render(<App />, root);
