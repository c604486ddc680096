// `node cache.mjs CONFIG`: asks for an operation by a fragment on the interface, and for the viewer in two queries, and
// says, a JSON line, what Apollo Client's normalized cache shows of them: with possibleTypes, and without.
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";

import { say } from "./documents.mjs";

const config = JSON.parse(process.argv[2]);
const OPERATIONS = gql`
  query Operations {
    viewer {
      id
      operations(first: 1) {
        nodes {
          ...State
        }
      }
    }
  }
  fragment State on Operation {
    id
    status
    progress {
      fraction
    }
  }
`;
const PREFERENCES = gql`
  query Preferences {
    viewer {
      id
      preferences {
        id
        theme
      }
    }
  }
`;

async function shown(possibleTypes) {
  const client = new ApolloClient({
    link: new HttpLink({ uri: config.graphql, headers: { authorization: `Bearer ${config.token}` } }),
    cache: new InMemoryCache({ possibleTypes }),
  });
  await client.query({ query: OPERATIONS });
  await client.query({ query: PREFERENCES });
  const cached = client.cache.readQuery({ query: OPERATIONS });
  const viewers = Object.keys(client.cache.extract()).filter((key) => key.startsWith("Viewer:"));
  client.stop();
  return { operation: cached?.viewer.operations.nodes[0] ?? null, viewers };
}

const possibleTypes = await (await fetch(`${config.graphql}/possible-types`)).json();
say({ with: await shown(possibleTypes), without: await shown(undefined) });
