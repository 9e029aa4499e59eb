import { Empty } from "../ui/states";

export function AgentView() {
  return <Empty title="Agent" />;
}
