/** The page: renders GraphiQL with example tabs for the gateway that serves it. */
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "./page.css";

import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";

import { createFetcher } from "./fetcher";
import { initialEditors } from "./start";
import { tabs } from "./tabs";

const fetcher = createFetcher();

createRoot(document.getElementById("explorer")!).render(
  <GraphiQL
    fetcher={fetcher}
    defaultTabs={tabs}
    {...initialEditors(tabs)}
    defaultEditorToolsVisibility="variables"
    showPersistHeadersSettings={false}
  >
    <GraphiQL.Logo>ADX gateway</GraphiQL.Logo>
    <GraphiQL.Footer>
      <p className="footer">
        Run the tabs from left to right. <code>@latest</code> is the operation started last, <code>@globex</code> the
        tenant of that slug. The schema as text: <a href="/graphql/schema">/graphql/schema</a>
      </p>
    </GraphiQL.Footer>
  </GraphiQL>,
);
