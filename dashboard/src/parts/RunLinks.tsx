import { Anchor, Group, Text } from "@mantine/core";
import { Link } from "wouter";

/** Some runs by name, and how many there are of which no name is known here. */
export function RunLinks({ names, count, all }: { names: readonly string[]; count: number; all?: string }) {
  const more = count - names.length;
  return (
    <Group gap="xs">
      {names.map((name) => (
        <Anchor key={name} component={Link} href={`/runs/${name}`} size="sm">
          {name}
        </Anchor>
      ))}
      {more <= 0 ? null : all === undefined ? (
        <Text size="sm">and {more} more</Text>
      ) : (
        <Anchor component={Link} href={all} size="sm">
          and {more} more
        </Anchor>
      )}
    </Group>
  );
}
