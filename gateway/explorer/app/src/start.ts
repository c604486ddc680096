/** The initial content of the editors: GraphiQL itself sets the document of the first tab, but not its variables. */
import type { Tab } from "./tabs";

type TabState = { tabs: Tab[]; activeTabIndex: number };

/** Return document and variables of the tab that was active last, if GraphiQL has stored its tabs, or of the first tab. */
export function initialEditors(tabs: Tab[]): { initialQuery: string; initialVariables: string } {
  const { tabs: open, activeTabIndex } = storedTabs() ?? { tabs, activeTabIndex: 0 };
  const active = open[activeTabIndex];
  return { initialQuery: active?.query ?? "", initialVariables: active?.variables ?? "" };
}

function storedTabs(): TabState | null {
  try {
    const state = JSON.parse(localStorage.getItem("graphiql:tabState") ?? "null") as TabState | null;
    return state !== null && Array.isArray(state.tabs) && state.tabs.length > 0 ? state : null;
  } catch {
    return null; // GraphiQL replaces a state that it cannot read by the default tabs
  }
}
