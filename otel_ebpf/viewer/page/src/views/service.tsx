import { Empty } from "../ui/states";

export function ServiceView({ name }: { name: string }) {
  return <Empty title={name} />;
}
