// Where a cluster serves the page, to somebody whom no proxy has signed in: a token is pasted, and a cookie stands for it.

import { Alert, Anchor, Button, Center, Code, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useState } from "react";
import { post, Refusal } from "../api";

export function SignIn({ reason, signedIn }: { reason: string; signedIn: () => void }) {
  const [token, setToken] = useState("");
  const [isPending, setPending] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const signIn = async (): Promise<void> => {
    setPending(true);
    setProblem(null);
    try {
      await post("/api/session", { token });
      signedIn();
    } catch (error) {
      setProblem(error instanceof Refusal ? error.message : "The server of this page does not answer.");
      setPending(false);
    }
  };
  return (
    <Center component="main" mih="100vh" p="md">
      <Paper withBorder p="lg" maw={560}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void signIn();
          }}
        >
          <Stack>
            <Title order={1} size="h3">
              Sign in to hatchet
            </Title>
            {problem === null ? (
              <Text>{reason}</Text>
            ) : (
              <Alert color="red" role="alert">
                {problem}
              </Alert>
            )}
            <PasswordInput
              label="Token"
              description="A bearer token for this cluster. You can see and do what it allows, and nothing more."
              value={token}
              onChange={(event) => setToken(event.currentTarget.value)}
              autoComplete="off"
              required
            />
            <Text size="sm">
              For a ServiceAccount of yours, <Code>kubectl create token NAME --duration=8h</Code> makes one.
            </Text>
            <Text size="sm">
              Do you sign in elsewhere to see this page?{" "}
              <Anchor href="/" underline="always">
                Load it again.
              </Anchor>
            </Text>
            <Button type="submit" loading={isPending}>
              Sign in
            </Button>
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
