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

// Fragments come first here but last in the manifest.
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
