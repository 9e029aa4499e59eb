import { Empty } from "../ui/states";

export function LiveView() {
  return <Empty title="Live" />;
}
