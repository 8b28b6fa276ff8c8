import { Alert, Card, Group, Progress, SimpleGrid, Stack, Table, Text, Title } from "@mantine/core";
import { age, duration, useNow } from "../format";
import { Nothing } from "../parts/Text";
import { useRows } from "../rows";
import { unwell } from "./Overview";

export function Pools() {
  const { pools, rateLimits, isSynced } = useRows();
  const now = useNow();
  const sorted = [...pools].sort((a, b) => (b.queued ?? 0) - (a.queued ?? 0) || a.name.localeCompare(b.name));
  return (
    <Stack>
      <Title order={1} size="h3">
        Pools
      </Title>
      {pools.length === 0 && isSynced ? <Nothing>No pools here.</Nothing> : null}
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        {sorted.map((pool) => (
          <Card key={pool.uid} withBorder>
            <Group justify="space-between">
              <Text fw={600}>{pool.name}</Text>
              <Text size="sm" c="dimmed">
                {pool.ready} of {pool.desired} workers · {pool.least ?? 0} to {pool.most ?? "any"}
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
          </Card>
        ))}
      </SimpleGrid>
      {rateLimits.length ? (
        <>
          <Title order={2} size="h4">
            Rate limits
          </Title>
          <Table aria-label="Rate limits">
            <Table.Thead>
              <Table.Tr>
                {["Name", "Used", "Limit", "Window", "Waiting", "Refills"].map((column) => (
                  <Table.Th key={column}>{column}</Table.Th>
                ))}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {rateLimits.map((limit) => (
                <Table.Tr key={limit.uid}>
                  <Table.Td>{limit.name}</Table.Td>
                  <Table.Td>{limit.used ?? ""}</Table.Td>
                  <Table.Td>{limit.limit}</Table.Td>
                  <Table.Td>{limit.window}</Table.Td>
                  <Table.Td>{limit.waiting ?? ""}</Table.Td>
                  <Table.Td>
                    {limit.refills && limit.refills > now ? `in ${duration(limit.refills - now)}` : ""}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </>
      ) : null}
    </Stack>
  );
}
