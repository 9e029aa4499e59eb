import { Empty } from "../ui/states";

export function ServicesView() {
  return <Empty title="Services" />;
}
