// `node cache.mjs CONFIG`: queries an operation by a fragment on the interface, and the viewer in two queries, and writes
// one JSON line with their entries in the normalized cache of Apollo Client, with and without possibleTypes.
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";

import { writeJson } from "./documents.mjs";

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

async function cacheEntries(possibleTypes) {
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
writeJson({ with: await cacheEntries(possibleTypes), without: await cacheEntries(undefined) });
