/** Placeholders for ids in variables, so that the example tabs can be run unchanged: "@latest" and "@" with a tenant's slug. */
import { type Answer, type Ask, type Headers, payloads } from "./endpoint";

type Variables = Record<string, unknown>;
type Tenants = { viewer: { tenantOverview: { availableTenants: { id: string; slug: string }[] } } | null };
type Operations = { viewer: { operations: { nodes: { id: string }[] } } | null };

export class Names {
  #latest: string | null = null;

  constructor(private readonly ask: Ask) {}

  /** Record the id of the operation that a mutation has started. */
  record(answer: Answer): void {
    for (const { operation } of payloads(answer) as { operation?: { id?: string } }[]) {
      this.#latest = operation?.id ?? this.#latest;
    }
  }

  /** Return the variables with ids instead of placeholders. Throws an Error for the user if a placeholder has no id. */
  async resolve(variables: Variables, headers: Headers): Promise<Variables> {
    const entries = Object.entries(variables).map(async ([key, value]) => {
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        return [key, await this.resolve(value as Variables, headers)];
      }
      if (typeof value !== "string" || !value.startsWith("@")) return [key, value];
      if (key === "tenantId") return [key, await this.#tenant(value.slice(1), headers)];
      if (key === "id" && value === "@latest") return [key, await this.#operation(headers)];
      return [key, value];
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  async #tenant(slug: string, headers: Headers): Promise<string> {
    const data = await this.ask<Tenants>("{ viewer { tenantOverview { availableTenants { id slug } } } }", headers);
    const tenant = data?.viewer?.tenantOverview.availableTenants.find((each) => each.slug === slug);
    if (!tenant) throw new Error(`No tenant with the slug "${slug}" is open to you; log in first, or write an id.`);
    return tenant.id;
  }

  async #operation(headers: Headers): Promise<string> {
    if (this.#latest !== null) return this.#latest;
    const data = await this.ask<Operations>("{ viewer { operations(first: 1) { nodes { id } } } }", headers);
    const latest = data?.viewer?.operations.nodes[0];
    if (!latest) throw new Error("No operation has been started yet; run the tab SwitchTenant first, or write an id.");
    return latest.id;
  }
}
