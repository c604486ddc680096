import { graphql } from "relay-runtime";

graphql`
  fragment documents_person on User {
    id
    name
  }
`;
graphql`
  fragment documents_state on Operation {
    id
    status
    ... on TenantSwitch {
      kind
    }
  }
`;
graphql`
  query documentsReadQuery {
    viewer {
      user {
        ...documents_person
      }
    }
  }
`;
graphql`
  subscription documentsFollowSubscription($id: ID!) {
    operation(id: $id) {
      ...documents_state
    }
  }
`;
