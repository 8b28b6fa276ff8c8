import { Alert, Button, Card, Group, Progress, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useFilters } from "../filters";
import { age, useNow } from "../format";
import { Pods } from "../parts/Pods";
import { Nothing } from "../parts/Text";
import { useRows } from "../rows";
import type { Rights } from "../types";
import { unwell } from "./Overview";

export function Pools({ rights }: { rights: Rights | undefined }) {
  const { pools, namespace, isSynced } = useRows();
  const filters = useFilters();
  const now = useNow();
  const opened = filters.get("pods");
  const sorted = [...pools].sort((a, b) => (b.queued ?? 0) - (a.queued ?? 0) || a.name.localeCompare(b.name));
  return (
    <Stack>
      <Title order={1} size="h3">
        Pools
      </Title>
      {pools.length === 0 && isSynced ? <Nothing>No pools.</Nothing> : null}
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        {sorted.map((pool) => (
          <Card key={pool.uid} withBorder>
            <Group justify="space-between">
              <Text fw={600}>{pool.name}</Text>
              <Text size="sm" c="dimmed">
                {pool.ready} of {pool.desired} workers · {pool.least} to {pool.most}
              </Text>
            </Group>
            <Progress
              value={pool.slots ? (100 * pool.running) / pool.slots : 0}
              mt="sm"
              aria-label={`${pool.running} of ${pool.slots} slots of ${pool.name} are taken`}
            />
            <Text size="sm" mt={4}>
              {pool.running} of {pool.slots} slots taken
              {pool.queued ? `, ${pool.queued} wait, the oldest for ${age(pool.oldest, now)}` : ", nothing waits"}
            </Text>
            {unwell(pool.name, "", pool.conditions).map(({ words }) => (
              <Alert key={words} color="red" mt="sm" variant="light">
                {words}
              </Alert>
            ))}
            {rights?.pods ? (
              <Button
                mt="sm"
                w="fit-content"
                size="compact-xs"
                variant="default"
                aria-label={`Pods of ${pool.name}`}
                aria-expanded={opened === pool.name}
                onClick={() => filters.change("pods", opened === pool.name ? null : pool.name)}
              >
                Pods
              </Button>
            ) : null}
            {rights?.pods && opened === pool.name ? <Pods pool={pool.name} namespace={namespace} now={now} /> : null}
          </Card>
        ))}
      </SimpleGrid>
    </Stack>
  );
}
