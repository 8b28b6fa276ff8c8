// Colours and fonts. Mantine's own colours for texts are paler than the 4.5 : 1 that WCAG asks for.

import { type CSSVariablesResolver, createTheme, NumberInput } from "@mantine/core";

export const theme = createTheme({
  primaryColor: "teal",
  autoContrast: true,
  fontFamily: "system-ui, sans-serif",
  fontFamilyMonospace: "ui-monospace, Menlo, Consolas, monospace",
  // a number that is too large is told, not changed while nobody looks
  components: { NumberInput: NumberInput.extend({ defaultProps: { clampBehavior: "none" } }) },
});

const DARK_TEXTS = { teal: "#06573f", red: "#a61e1e", blue: "#11457e", gray: "#343a40", yellow: "#6b4100" };
const PALE_TEXTS = { teal: "#63e6be", red: "#ffa8a8", blue: "#a5d8ff", gray: "#dee2e6", yellow: "#ffec99" };

export const cssVariablesResolver: CSSVariablesResolver = () => ({
  variables: {},
  light: { ...texts(DARK_TEXTS), "--mantine-color-dimmed": "#495057", "--mantine-color-placeholder": "#5c636a" },
  dark: { ...texts(PALE_TEXTS), "--mantine-color-dimmed": "#ced4da", "--mantine-color-placeholder": "#a6adb4" },
});

const texts = (colors: typeof DARK_TEXTS): Record<string, string> => ({
  "--mantine-color-anchor": colors.teal,
  "--mantine-color-error": colors.red,
  ...Object.fromEntries(
    Object.entries(colors).flatMap(([name, color]) => [
      [`--mantine-color-${name}-text`, color],
      [`--mantine-color-${name}-light-color`, color],
    ]),
  ),
});
