// Checks what a form says against its schema, by a library that compiles nothing: the page may run no code made of texts.

import { type OutputUnit, type Schema, Validator } from "@cfworker/json-schema";
import { ErrorSchemaBuilder, type RJSFSchema, type ValidatorType } from "@rjsf/utils";
import type { Input } from "./schema";

const DRAFT = "2020-12"; // pydantic's
/** What only says that something below it is wrong, which is told where it is. */
const SUMMARIES = new Set(["properties", "additionalProperties", "items", "prefixItems", "$ref", "allOf", "anyOf"]);

export const validator: ValidatorType<Input, RJSFSchema> = {
  validateFormData(formData, schema) {
    const found = errorsOf(formData, schema).map((unit) => ({ ...unit, ...told(unit) }));
    const schemas = new ErrorSchemaBuilder<Input>();
    for (const { message, path } of found) schemas.addErrors(message, path);
    const errors = found.map(({ message, path, keyword }) => {
      return { name: keyword, message, property: `.${path.join(".")}`, stack: `${path.join(".")} ${message}` };
    });
    return { errors, errorSchema: schemas.ErrorSchema };
  },
  isValid(schema, formData, root) {
    return errorsOf(formData, { ...schema, $defs: root.$defs ?? {} }).length === 0;
  },
  rawValidation<Result>(schema: RJSFSchema, formData?: unknown) {
    return { errors: errorsOf(formData, schema) as Result[] };
  },
};

function errorsOf(formData: unknown, schema: RJSFSchema): OutputUnit[] {
  // copies: what is undefined would be no JSON, and the library writes into the schema
  const [value, own] = JSON.parse(JSON.stringify([formData ?? null, schema])) as [unknown, Schema];
  const units = new Validator(own, DRAFT, false).validate(value).errors;
  const causes = units.filter(({ keyword }) => !SUMMARIES.has(keyword));
  return causes.length ? causes : units;
}

/** Say what is wrong, and where: what is missing is told at its own field. */
function told({ keyword, instanceLocation, error }: OutputUnit): { message: string; path: string[] } {
  const path = instanceLocation.split("/").slice(1).map(unescaped);
  const quoted = /"(.*)"\.$/s.exec(error)?.[1] ?? "";
  if (keyword === "required") return { message: "is required", path: [...path, quoted] };
  if (keyword === "type") return { message: `is no ${quoted.replace('", "', " or ")}`, path };
  return { message: error.replace(/^Instance /, ""), path };
}

const unescaped = (part: string): string => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
