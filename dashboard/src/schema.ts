// What a form is made from: the JSON Schema that a workflow registered for its input. Pure.

import type { RJSFSchema } from "@rjsf/utils";

export type Input = Record<string, unknown>;

type Node = RJSFSchema | boolean;

/** Read a registered schema; null: there is none, or nothing in it that fields could be made from. */
export function readSchema(text: string | null | undefined): RJSFSchema | null {
  if (!text) return null;
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch {
    return null; // nobody checks what a worker registers
  }
  if (!isObject(schema) || !isObject(schema.properties) || !Object.keys(schema.properties).length) return null;
  return forPeople(schema as RJSFSchema, false);
}

/**
 * Rewrite a schema so that its fields are what a person expects.
 *
 * An optional field that may be null is one that may be left empty, not a choice between two kinds. A checkbox that has
 * to be there is off at first, as it looks.
 */
function forPeople(schema: RJSFSchema, isRequired: boolean): RJSFSchema {
  const { anyOf, ...rest } = schema;
  if (rest.default === null) delete rest.default;
  const others = anyOf?.filter((each) => !(isObject(each) && each.type === "null"));
  const [only] = others ?? [];
  if (others?.length === 1 && others.length !== anyOf?.length && !isRequired && isObject(only)) {
    return forPeople({ ...(only as RJSFSchema), ...rest }, isRequired);
  }
  const found: RJSFSchema = { ...rest };
  if (anyOf) found.anyOf = anyOf.map((each) => withTitle(each as RJSFSchema));
  if (isRequired && found.type === "boolean" && found.default === undefined) found.default = false;
  const required = new Set(found.required ?? []);
  if (found.properties) found.properties = eachOf(found.properties, (each, name) => below(each, required.has(name)));
  if (found.$defs) found.$defs = eachOf(found.$defs, (each) => below(each, false));
  if (isObject(found.items)) found.items = below(found.items as RJSFSchema, true);
  if (isObject(found.additionalProperties)) {
    found.additionalProperties = below(found.additionalProperties as RJSFSchema, true);
  }
  return found;
}

const below = <N extends Node>(node: N, isRequired: boolean): N =>
  isObject(node) ? (forPeople(node as RJSFSchema, isRequired) as N) : node;

/** Of what can be chosen, "null" is called "none" and a type has its name. */
const withTitle = (schema: RJSFSchema): RJSFSchema => {
  const title = schema.title ?? (schema.type === "null" ? "none" : schema.type);
  return { ...below(schema, true), ...(typeof title === "string" ? { title } : {}) };
};

const eachOf = <V>(all: Record<string, V>, change: (value: V, name: string) => V): Record<string, V> =>
  Object.fromEntries(Object.entries(all).map(([name, value]) => [name, change(value, name)]));

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
