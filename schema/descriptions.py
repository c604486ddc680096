"""Descriptions that several types of the GraphQL schema share."""

IDEMPOTENCY_KEY = (
    "Repeating a key returns the same operation. The same key with different input fails with CONFLICT "
    "(IDEMPOTENCY_KEY_REUSED)."
)
WAIT_SECONDS = "How long to wait for the operation to close or to reach WAITING before responding, 0 to 30 seconds."
FIRST = "Maximum number of items of the page, 0 to 100."
AFTER = "The endCursor of the previous page. Omit it for the first page."
FILTER = "Selects operations. Omitted fields do not restrict the selection."
SESSION_TOKEN = (
    "Token of the session that the operation creates. Valid once the operation is COMPLETED; null if the operation "
    "creates no session."
)
VIEWER = "The viewer of the new session. Null until the operation is COMPLETED."
STARTED_OPERATION = "The operation in its current state."
EDGES = "The items of this page with their cursors."
NODES = "The items of this page."
NODE = "The item."
CURSOR = "Position of the item in the list. Pass it as `after` to receive the items that follow."
PAGE_INFO = "Position of this page in the list."
RESULT = "Set once the operation is COMPLETED."
