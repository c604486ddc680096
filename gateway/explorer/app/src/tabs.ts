/** The documents that GraphiQL opens with. A tab is titled by the name of its operation. */
export type Tab = { query: string; variables?: string };

const json = (variables: object): string => JSON.stringify(variables, null, 2);

const progress = `progress {
        fraction
        currentStep
        steps {
          name
          status
          attempt
          lastError
        }
      }
      error {
        code
        message
        step
        compensated
      }`;

const logIn: Tab = {
  query: `# Start here: a browser gets its session as a cookie.
# grace@example.com has the same password.
mutation LogIn($input: LoginInput!) {
  login(input: $input) {
    operation {
      id
      status
      ${progress}
    }
    viewer {
      user {
        name
      }
      tenantOverview {
        currentTenant {
          name
        }
      }
    }
  }
}
`,
  variables: json({ input: { email: "ada@example.com", password: "adx-demo-password" } }),
};

const dashboard: Tab = {
  query: `# Each part comes from its own source.
query Dashboard {
  viewer {
    dashboard {
      profile {
        name
        email
      }
      tenant {
        name
        subscriptionTier
        role
      }
      activeOperations {
        id
        kind
        status
        progress {
          fraction
          estimatedSecondsRemaining
        }
      }
      recentFiles {
        name
        size
        downloadUrl
      }
      lastUpdated
    }
    tenantOverview {
      availableTenants {
        id
        name
      }
    }
  }
}
`,
};

const switchTenant: Tab = {
  query: `# Starts the switch without waiting; the next tab follows it.
# This page continues with the token of the new session.
mutation SwitchTenant($input: SwitchTenantInput!) {
  switchTenant(input: $input) {
    sessionToken
    operation {
      id
      status
      toTenant {
        name
      }
    }
  }
}
`,
  variables: json({ input: { tenantId: "@globex", waitSeconds: 0 } }),
};

const followOperation: Tab = {
  query: `# The present state, then each change, until the operation closes.
subscription FollowOperation($id: ID!) {
  operation(id: $id) {
    id
    kind
    status
    ${progress.replaceAll("\n  ", "\n")}
    ... on TenantSwitch {
      result {
        tenant {
          name
        }
        permissions
      }
    }
  }
}
`,
  variables: json({ id: "@latest" }),
};

export const tabs: Tab[] = [logIn, dashboard, switchTenant, followOperation];
