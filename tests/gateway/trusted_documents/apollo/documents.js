import { gql } from "@apollo/client";

const PERSON = gql`
  fragment Person on User {
    id
    name
  }
`;
const STATE = gql`
  fragment State on Operation {
    id
    status
    ... on TenantSwitch {
      kind
    }
  }
`;

// The fragments stand first here; the manifest has them last.
export const READ = gql`
  ${PERSON}
  query Read {
    viewer {
      user {
        ...Person
      }
    }
  }
`;
export const FOLLOW = gql`
  ${STATE}
  subscription Follow($id: ID!) {
    operation(id: $id) {
      ...State
    }
  }
`;
