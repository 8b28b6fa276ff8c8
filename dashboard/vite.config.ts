import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// What this builds is kept in the repository: whoever installs the command needs no Node.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../cli/hatchet_cli/dashboard/static",
    emptyOutDir: true,
    chunkSizeWarningLimit: 2000,
    // What a helper for tests in @rjsf/core imports; the helper is not in what is built.
    rolldownOptions: { external: ["@rjsf/validator-ajv8"] },
  },
});
