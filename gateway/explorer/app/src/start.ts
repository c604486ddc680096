/** What the editors hold when the page opens: GraphiQL fills in the first tab's document, but not its variables. */
import type { Tab } from "./tabs";

type TabState = { tabs: Tab[]; activeTabIndex: number };

/** Those of the tab that was open last, where GraphiQL has stored its tabs before, or of the first one. */
export function editorsOf(tabs: Tab[]): { initialQuery: string; initialVariables: string } {
  const { tabs: open, activeTabIndex } = stored() ?? { tabs, activeTabIndex: 0 };
  const active = open[activeTabIndex];
  return { initialQuery: active?.query ?? "", initialVariables: active?.variables ?? "" };
}

function stored(): TabState | null {
  try {
    const state = JSON.parse(localStorage.getItem("graphiql:tabState") ?? "null") as TabState | null;
    return state !== null && Array.isArray(state.tabs) && state.tabs.length > 0 ? state : null;
  } catch {
    return null; // what GraphiQL cannot read it replaces by the tabs of its first day
  }
}
