import { Empty } from "../ui/states";

export function TraceView({ id }: { id: string }) {
  return <Empty title={`Trace ${id}`} />;
}
