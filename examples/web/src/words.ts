/** The labels of the page. A value of a newer gateway without a label is shown by its own name. */
import type { OperationKind, OperationStatus, StepStatus } from "./adx/generated/graphql";

const KINDS: Partial<Record<OperationKind, string>> = {
  LOGIN: "Sign-in",
  TENANT_SWITCH: "Tenant switch",
  FILE_UPLOAD: "File upload",
  FILE_PROCESSING: "File reading",
  USER_ONBOARDING: "User onboarding",
};

const STATUSES: Partial<Record<OperationStatus, string>> = {
  RUNNING: "Running",
  WAITING: "Waiting for you",
  COMPENSATING: "Undoing",
  COMPLETED: "Completed",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
  TIMED_OUT: "Timed out",
};

const STEP_STATUSES: Partial<Record<StepStatus, string>> = {
  PENDING: "to come",
  RUNNING: "running",
  RETRYING: "trying again",
  COMPLETED: "done",
  SKIPPED: "skipped",
  FAILED: "failed",
  COMPENSATED: "undone",
  COMPENSATION_FAILED: "could not be undone",
};

export function kindOf(operation: { kind: OperationKind }): string {
  return KINDS[operation.kind] ?? sentence(operation.kind);
}

export function statusOf(operation: { status: OperationStatus }): string {
  return STATUSES[operation.status] ?? sentence(operation.status);
}

export function stepStatusOf(step: { status: StepStatus }): string {
  return STEP_STATUSES[step.status] ?? sentence(step.status).toLowerCase();
}

/** "store_file" as "Store file"; "admin" as "Admin". */
export function sentence(name: string): string {
  const words = name.replaceAll("_", " ").toLowerCase().replace("mfa", "MFA");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function bytes(count: number): string {
  const power = Math.min(3, Math.floor(Math.log(Math.max(1, count)) / Math.log(1024)));
  const value = count / 1024 ** power;
  return `${value.toFixed(power && value < 10 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB"][power]}`;
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]] as const;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function ago(moment: string): string {
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  const unit = UNITS.find(([, size]) => seconds >= size);
  return unit ? relative.format(-Math.floor(seconds / unit[1]), unit[0]) : "just now";
}

export function duration(from: string, to: string): string {
  return `${((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1)} s`;
}
