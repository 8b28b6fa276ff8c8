// A form made from a JSON Schema. It has a file of its own in what is built: only who starts a run loads it.

import { Alert } from "@mantine/core";
import { withTheme } from "@rjsf/core";
import { Theme } from "@rjsf/mantine";
import type { RJSFSchema } from "@rjsf/utils";
import { Component, type ReactNode } from "react";
import type { Input } from "../schema";
import { validator } from "../validator";

// Dates are left to the browser's own fields: a keyboard and a screen reader work with those.
const { DateWidget, DateTimeWidget, TimeWidget, ...widgets } = Theme.widgets ?? {};
const Form = withTheme<Input, RJSFSchema>({ ...Theme, widgets } as Parameters<typeof withTheme<Input, RJSFSchema>>[0]);

export default function InputForm({
  schema,
  input,
  onChange,
  onStart,
  children,
}: {
  schema: RJSFSchema;
  input: Input;
  onChange: (input: Input) => void;
  onStart: (input: Input) => void;
  children: ReactNode;
}) {
  return (
    <Guarded>
      <Form
        schema={schema}
        formData={input}
        validator={validator}
        idPrefix="input"
        noHtml5Validate
        showErrorList={false}
        focusOnFirstError
        onChange={({ formData }) => onChange(formData ?? {})}
        onError={() => {}} // they are shown at their fields; without this, they are written to the console too
        onSubmit={({ formData }) => onStart(formData ?? {})}
      >
        {children}
      </Form>
    </Guarded>
  );
}

/** Any program may register any schema: one that no form can be made from must not take the page with it. */
class Guarded extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    if (this.state.error === null) return this.props.children;
    return <Alert color="yellow">No form can be made from the schema of this workflow: write the input as JSON.</Alert>;
  }
}
