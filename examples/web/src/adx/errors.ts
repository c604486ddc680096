/** What went wrong, in words for a user: for the form as a whole, and for its fields. */
import type { CombinedError } from "urql";

type FieldError = { path: readonly string[]; message: string };

export function messageOf(error: CombinedError): string {
  return error.graphQLErrors[0]?.message ?? "The gateway does not answer. Try again in a moment.";
}

export function codeOf(error: CombinedError | undefined): unknown {
  return error?.graphQLErrors[0]?.extensions.code;
}

/** The fields of a refused input (BAD_USER_INPUT) that are wrong. */
export function wrongFields(error: CombinedError | undefined): readonly FieldError[] {
  return error?.graphQLErrors.flatMap(({ extensions }) => (extensions.fields as FieldError[] | undefined) ?? []) ?? [];
}

/** What is wrong with each field, by the field's own name. */
export function byField(fields: readonly FieldError[]): Record<string, string> {
  return Object.fromEntries(fields.map(({ path, message }) => [path.at(-1), message]));
}
