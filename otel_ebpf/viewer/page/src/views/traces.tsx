import { Empty } from "../ui/states";

export function TracesView() {
  return <Empty title="Traces" />;
}
