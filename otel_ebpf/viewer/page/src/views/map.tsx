import { Empty } from "../ui/states";

export function MapView() {
  return <Empty title="Map" />;
}
