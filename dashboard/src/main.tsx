import "@mantine/core/styles.css";
import "@xyflow/react/dist/style.css";
import "./style.css";
import { MantineProvider } from "@mantine/core";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { cssVariablesResolver, theme } from "./theme";

const nonce = document.querySelector<HTMLMetaElement>("meta[name=nonce]")?.content ?? "";
setNonce(nonce); // of what Mantine's modals put into the page
const root = document.getElementById("root");
if (root) {
  // what is caught is told where it was caught
  createRoot(root, { onCaughtError: (error) => console.info(error) }).render(
    <StrictMode>
      <MantineProvider
        theme={theme}
        cssVariablesResolver={cssVariablesResolver}
        defaultColorScheme="auto"
        getStyleNonce={() => nonce}
      >
        <App />
      </MantineProvider>
    </StrictMode>,
  );
}
